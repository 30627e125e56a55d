"""A real S3 for tests: one Ceph monitor, one OSD in memory and one RADOS gateway, on free ports of loopback.

What moto waves through, Ceph checks: signatures, checksums, conditions. Debian has it:
`apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common`.
"""

import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import Processes, free_port

PROGRAMS = ("setpriv", "ceph-mon", "ceph-osd", "radosgw", "ceph", "ceph-authtool", "monmaptool", "radosgw-admin")
KMS_KEY_ID = "k1"

_CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_port}/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
# Without keys (auth "none") the gateway hangs.
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {folder}/keyring
run_dir = {folder}
pid_file = {folder}/$type.$id.pid
log_file = {folder}/$name.log
admin_socket = {folder}/$name.asok
mon_data = {folder}/mon
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = {memory_bytes}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_max_object_name_len = 256
osd_max_object_namespace_len = 64
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_max_pg_per_osd = 2000
osd_max_pg_per_osd_hard_ratio = 50
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_thread_pool_size = 64
rgw_dynamic_resharding = false
rgw_crypt_require_ssl = false
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = {kms_key_id}=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
"""

_CAPABILITIES = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *"),
    "client.rgw.a": ("mon", "allow rw", "osd", "allow rwx"),
}


@contextmanager
def ceph_gateway(
    folder: Path, *, access_key: str, secret_key: str, memory_bytes: int = 4 * 2**30, start_seconds: float = 120.0
) -> Iterator[str]:
    """The address of the gateway; everything that it writes stands below `folder`. Takes about ten seconds."""
    port, mon_port = free_port(), free_port()
    conf, keyring = folder / "ceph.conf", folder / "keyring"
    (folder / "mon").mkdir(parents=True)
    (folder / "osd").mkdir()
    fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
    conf.write_text(
        _CONF.format(
            fsid=fsid,
            folder=folder,
            port=port,
            mon_port=mon_port,
            memory_bytes=memory_bytes,
            kms_key_id=KMS_KEY_ID,
        )
    )

    def do(*command: str) -> None:
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=start_seconds)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"{command[0]} failed: {error.stderr}") from None

    do("ceph-authtool", "--create-keyring", str(keyring))
    for name, capabilities in _CAPABILITIES.items():
        caps = [
            word
            for kind, allowed in zip(capabilities[::2], capabilities[1::2], strict=True)
            for word in ("--cap", kind, allowed)
        ]
        do("ceph-authtool", str(keyring), "--gen-key", "--name", name, *caps)
    do("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", str(folder / "monmap"))
    do("ceph-mon", "-c", str(conf), "-i", "a", "--mkfs", "--monmap", str(folder / "monmap"), "--keyring", str(keyring))
    with Processes(folder) as processes:
        processes.start("ceph-mon", "-c", str(conf), "-i", "a", "-f")
        do("ceph", "-c", str(conf), "--connect-timeout", "60", "osd", "new", osd_id, "0")
        do("ceph", "-c", str(conf), "osd", "crush", "add", "osd.0", "1.0", "host=node", "root=default")
        do("ceph-osd", "-c", str(conf), "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        processes.start("ceph-osd", "-c", str(conf), "-i", "0", "-f")
        processes.start("radosgw", "-c", str(conf), "-n", "client.rgw.a", "-f")
        url = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(url, processes, start_seconds)
        do(
            *("radosgw-admin", "-c", str(conf), "user", "create", "--uid", "tests", "--display-name", "tests"),
            *("--access-key", access_key, "--secret", secret_key),
        )
        yield url


def _wait_until_it_answers(url: str, processes: Processes, seconds: float) -> None:
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            processes.check()
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"Ceph's gateway did not start within {seconds} s") from None
            time.sleep(0.1)
