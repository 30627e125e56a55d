"""LocalRekognition: a stand-in server for the Face Liveness operations, and the sessions that it makes up.

Imports nothing but the standard library, and nothing of the rest of the package.
"""

from liveness_etl.local.config import LocalConfig
from liveness_etl.local.server import LocalRekognition, serve
from liveness_etl.local.sessions import session_ids

__all__ = ["LocalConfig", "LocalRekognition", "serve", "session_ids"]
