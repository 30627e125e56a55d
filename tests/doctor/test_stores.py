"""The output and the images: written, replaced under conditions, deleted again, and kept apart."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from liveness_etl.doctor import machine
from liveness_etl.doctor.stores import Probed, apart_finding, probe
from liveness_etl.errors import StoreError
from liveness_etl.storage import ABSENT, rescue_folder
from liveness_etl.storage_folder import LocalStore
from liveness_etl.storage_s3 import S3Store
from tests.conftest import new_bucket
from tests.doctor.conftest import Doctor
from tests.processes import free_port

pytestmark = pytest.mark.usefixtures("aws")


def config(tmp_path: Path, text: str) -> Path:
    """A configuration."""
    path = tmp_path / "liveness.toml"
    path.write_text(text)
    return path


def files(folder: Path) -> list[str]:
    """What lies in a folder, but for locks."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not path.startswith("_state/locks/"))


def test_all_is_well_with_two_buckets_and_two_keys(doctor: Doctor, moto: Any, tmp_path: Path) -> None:
    """Nothing stays in either of them, no version either (the buckets keep none)."""
    tables, faces = new_bucket(moto), new_bucket(moto)
    settings = config(
        tmp_path,
        f"[output]\nuri = 's3://{tables}/liveness'\nkms_key_id = 'alias/tables'\n"
        f"[images]\nuri = 's3://{faces}/liveness'\nkms_key_id = 'alias/faces'\n",
    )
    examined = doctor("--config", settings)
    assert examined.wrong == set()
    assert examined.code == 0
    assert examined.findings["output"]["what"].endswith("heeds conditions, encrypts with a KMS key")
    assert examined.findings["images apart"]["what"] == "images and tables share no place and no key"
    assert [moto.list_objects_v2(Bucket=name)["KeyCount"] for name in (tables, faces)] == [0, 0]
    assert examined.err.startswith("ok: ")


def test_one_bucket_for_tables_and_faces_is_a_warning(doctor: Doctor, moto: Any) -> None:
    """The default: nothing but the prefixes of analysts' policies is between them."""
    examined = doctor("--output", f"s3://{new_bucket(moto)}/liveness")
    assert examined.code == 0
    assert examined.wrong == {"images apart"}
    assert "a bucket, in which prefixes alone" in examined.findings["images apart"]["what"]
    assert "S3's own key" in examined.findings["images apart"]["what"]
    assert "images.uri" in examined.findings["images apart"]["mend"]
    assert examined.status("images") == "ok"


def test_one_key_for_both_is_a_warning(doctor: Doctor, moto: Any, tmp_path: Path) -> None:
    """images.kms_key_id is the output's where it is not set."""
    settings = config(
        tmp_path,
        f"[output]\nuri = 's3://{new_bucket(moto)}'\nkms_key_id = 'alias/one'\n"
        f"[images]\nuri = 's3://{new_bucket(moto)}'\n",
    )
    assert doctor("--config", settings).findings["images apart"]["what"] == "images and tables share a KMS key"


def test_a_key_of_its_own_counts_in_a_shared_bucket_too(doctor: Doctor, moto: Any, tmp_path: Path) -> None:
    """images.kms_key_id holds for images below the output as well."""
    settings = config(
        tmp_path,
        f"[output]\nuri = 's3://{new_bucket(moto)}'\nkms_key_id = 'alias/one'\n[images]\nkms_key_id = 'alias/other'\n",
    )
    found = doctor("--config", settings).findings["images apart"]["what"]
    assert "share a bucket" in found
    assert "KMS" not in found


def test_images_among_the_tables_fail(doctor: Doctor, moto: Any, tmp_path: Path) -> None:
    """There the analysts' policy lets them read."""
    output = f"s3://{new_bucket(moto)}/liveness"
    settings = config(tmp_path, f"[output]\nuri = '{output}'\n[images]\nuri = '{output}/sessions/faces'\n")
    examined = doctor("--config", settings)
    assert examined.code == 3
    assert examined.wrong == {"images apart"}
    assert "analyst.json lets analysts read" in examined.findings["images apart"]["what"]


def test_discarded_images_need_no_store(doctor: Doctor, tmp_path: Path) -> None:
    """And there is nothing to keep apart."""
    examined = doctor("--output", tmp_path, "--config", config(tmp_path, "[images]\nmode = 'discard'\n"))
    assert examined.wrong == set()
    assert "images apart" not in examined.findings


def test_a_bucket_that_is_not_there(doctor: Doctor) -> None:
    """Said once, with what to do; the tables are not tried then."""
    examined = doctor("--output", "s3://nobody-has-this-bucket/x")
    assert examined.code == 3
    assert examined.findings["output"]["what"].endswith("there is no such bucket")
    assert examined.findings["output"]["mend"] == "create it first"
    assert "DuckDB" not in examined.findings
    assert "images" not in examined.findings


def test_an_s3_out_of_reach_is_said_at_once(doctor: Doctor, tmp_path: Path) -> None:
    """Without the two minutes of tries that a run would take."""
    url = f"http://127.0.0.1:{free_port()}"
    examined = doctor("--output", "s3://lake/x", "--config", config(tmp_path, f"[output]\nendpoint_url = '{url}'\n"))
    assert examined.findings["output"]["what"] == f"cannot connect to {url} (Connection refused)"
    assert "output.endpoint_url" in examined.findings["output"]["mend"]


def test_no_output_and_wrong_ones(doctor: Doctor, tmp_path: Path) -> None:
    """Everything else is looked at all the same."""
    assert "--output" in doctor().findings["output"]["mend"]
    assert doctor("--output", "ftp://host/x").findings["output"]["what"].startswith("cannot store under ftp://")
    examined = doctor("--output", tmp_path, "--config", config(tmp_path, "[output]\nprofile = 'nobody'\n"))
    assert examined.status("output") == "ok"
    examined = doctor("--output", "s3://lake", "--config", config(tmp_path, "[output]\nprofile = 'nobody'\n"))
    assert "nobody" in examined.findings["output"]["what"]
    assert examined.status("default: Rekognition") == "ok"


def test_a_folder_is_left_as_it_was(doctor: Doctor, tmp_path: Path) -> None:
    """One that is not there yet is not made, one that is there gets nothing that stays."""
    output = tmp_path / "out"
    examined = doctor("--output", output)
    assert "the first run makes it" in examined.findings["output"]["what"]
    assert not output.exists()
    (output / "images").mkdir(parents=True)
    examined = doctor("--output", output)
    assert examined.findings["output"]["what"] == f"{output} can be written"
    assert examined.findings["images apart"]["what"] == "images and tables share a folder"
    assert files(output) == []


def test_a_folder_that_cannot_be_written(doctor: Doctor, tmp_path: Path) -> None:
    """A file stands where a folder is needed: in the path to it, or in it."""
    (tmp_path / "file").write_text("")
    examined = doctor("--output", tmp_path / "file" / "out")
    assert examined.status("output") == "fail"
    assert "cannot be made" in examined.findings["output"]["what"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".tmp").write_text("")
    examined = doctor("--output", tmp_path / "out")
    assert examined.code == 3
    assert examined.findings["output"]["what"].startswith(f"cannot write {tmp_path / 'out'}")


class Careless(LocalStore):
    """A store that heeds no conditions, as some that speak S3."""

    def put(self, path: str, content: bytes | Path, *, expect: str | None = None, sha256: bytes | None = None) -> str:
        return super().put(path, content, expect=None, sha256=sha256)


class NotReplacing(LocalStore):
    """A store that heeds If-None-Match and not If-Match."""

    def put(self, path: str, content: bytes | Path, *, expect: str | None = None, sha256: bytes | None = None) -> str:
        return super().put(path, content, expect=expect if expect == ABSENT else None, sha256=sha256)


class Keeping(LocalStore):
    """A store that lets nobody delete."""

    def delete(self, paths: Iterable[str]) -> None:
        raise StoreError(f"cannot delete {next(iter(paths))}: access denied; grant it")


def test_a_store_without_conditions_fails(tmp_path: Path) -> None:
    """Two runs would write over each other's tables there."""
    for store, condition in ((Careless(tmp_path), "If-None-Match"), (NotReplacing(tmp_path), "If-Match")):
        found = probe("output", store, "", None, replaces=True).finding
        assert (found.status, f" ignores {condition}: " in found.what) == ("fail", True)
    assert files(tmp_path) == []
    assert probe("images", NotReplacing(tmp_path), "", None).finding.status == "ok"  # no image is ever replaced


def test_what_cannot_be_deleted_is_named(tmp_path: Path) -> None:
    """It is left behind, and the right is needed to fold."""
    found = probe("output", Keeping(tmp_path), "", None, replaces=True).finding
    (left,) = files(tmp_path)
    assert found.status == "warn"
    assert left in found.what


@pytest.mark.slow
def test_ceph_with_versions_fails_and_without_passes(ceph_endpoint: str, client_of: Any) -> None:
    """There a bucket that keeps versions heeds no If-None-Match, and fulfils no If-Match."""
    client = client_of(ceph_endpoint)
    store = S3Store(f"s3://{new_bucket(client)}/output", client)
    assert probe("output", store, "", None, replaces=True).finding.status == "ok"
    client.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    found = probe("output", store, "", None, replaces=True).finding
    assert found.status == "fail"
    assert "a bucket without versioning" in found.mend


@pytest.mark.slow
def test_a_kms_key_that_is_not_there_fails_on_ceph(ceph_endpoint: str, client_of: Any) -> None:
    """Its gateway asks its key store, as S3 asks KMS."""
    client = client_of(ceph_endpoint)
    store = S3Store(f"s3://{new_bucket(client)}/output", client, "no-such-key")
    found = probe("output", store, "", "no-such-key").finding
    assert (found.status, "KMS key" in found.what) == ("fail", True)
    assert "kms_key_id" in found.mend


def test_keys_are_compared_only_where_both_are_known(moto: Any) -> None:
    """A store that could not be written says nothing about its key."""
    tables, faces = (S3Store(f"s3://{new_bucket(moto)}", moto) for _ in range(2))
    written = probe("output", tables, "", None, replaces=True)
    unwritten = Probed(faces, written.finding)
    assert apart_finding(written, unwritten).status == "ok"
    assert apart_finding(written, probe("images", faces, "", None)).status == "warn"


def test_rescued_answers_are_counted(doctor: Doctor, tmp_path: Path) -> None:
    """They wait for the next run of this user with this output."""
    output = tmp_path / "out"
    part = rescue_folder(str(output)) / "dt=2026-03-01" / "20260301T000000000000Z-0123abcd-x.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"")
    found = doctor("--output", output).findings["rescued answers"]
    assert found["status"] == "warn"
    assert found["what"].startswith("1 part in ")
    assert "as this user" in found["mend"]


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning below 2 GiB, a failure below a fifth of one."""
    store = LocalStore(tmp_path)
    for free_bytes, status in ((3 << 30, "ok"), (1 << 30, "warn"), (100 << 20, "fail")):
        usage = shutil._ntuple_diskusage(1 << 40, 1 << 40, free_bytes)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert machine.space_finding(store).status == status


def test_another_duckdb_than_the_one_that_was_closed(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ways out of a query were not looked for."""
    assert doctor("--output", tmp_path).status("DuckDB") == "ok"
    monkeypatch.setattr(machine, "version", lambda _: "9.9.9")
    examined = doctor("--output", tmp_path)
    assert examined.status("DuckDB") == "fail"
    assert examined.findings["DuckDB"]["mend"].startswith("pip install 'duckdb==")


def test_duckdb_says_how_it_reads_s3(doctor: Doctor, moto: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra, or what to install; a folder needs neither."""
    bucket = new_bucket(moto)
    examined = doctor("--output", f"s3://{bucket}/liveness")
    assert examined.findings["DuckDB"]["what"].endswith(" opens the tables, on S3 with httpfs")
    monkeypatch.setattr(machine, "extension_file", lambda: None)
    examined = doctor("--output", f"s3://{bucket}/liveness")
    assert examined.status("DuckDB") == "ok"
    assert "without httpfs: pip install 'liveness-etl[s3-query]' makes" in examined.findings["DuckDB"]["what"]
