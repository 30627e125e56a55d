"""HTTP by hand, for what boto3 would hide: many requests at once, odd packets, raw answers."""

import json
import socket
from collections.abc import Generator, Iterable, Iterator

GET = "RekognitionService.GetFaceLivenessSessionResults"
CREATE = "RekognitionService.CreateFaceLivenessSession"


def request(body: bytes, target: str = GET, headers: str = "") -> bytes:
    """One request of AWS JSON 1.1."""
    headers += f"X-Amz-Target: {target}\r\nContent-Length: {len(body)}\r\n"
    return f"POST / HTTP/1.1\r\nHost: local\r\n{headers}\r\n".encode() + body


def get(session_id: str) -> bytes:
    """The request for one session."""
    return request(json.dumps({"SessionId": session_id}).encode())


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def answers(connection: socket.socket) -> Generator[tuple[int, bytes], None, None]:
    """Status and body of every answer as it comes, until the server closes."""
    with connection.makefile("rb") as stream:
        while status_line := stream.readline():
            length = 0
            while (line := stream.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            yield int(status_line.split()[1]), stream.read(length)


def ask(port: int, session_ids: Iterable[str], batch: int = 50) -> Iterator[tuple[int, bytes]]:
    """Asks for all of them over one connection, `batch` pipelined at a time; answers in that order."""
    wanted = list(session_ids)
    with connect(port) as connection:
        stream = answers(connection)
        for start in range(0, len(wanted), batch):
            some = wanted[start : start + batch]
            connection.sendall(b"".join(get(session_id) for session_id in some))
            for _ in some:
                yield next(stream)
        stream.close()
