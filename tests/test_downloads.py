"""Files arrive whole or not at all."""

import http.server
import threading

import pytest

from cvjax.files import download, replacing


class _Broken(http.server.BaseHTTPRequestHandler):
    """Promises more than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 300)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def broken_url():
    server = http.server.HTTPServer(("127.0.0.1", 0), _Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    server.server_close()


def _nothing(path):
    pass


def _refuse(path):
    raise ValueError("another file")


def test_a_file_is_fetched_into_a_new_folder(tmp_path):
    (tmp_path / "there").write_bytes(b"content")
    target = download((tmp_path / "there").as_uri(), tmp_path / "deep" / "here", check=_nothing, progress=False)
    assert target.read_bytes() == b"content"
    assert [path.name for path in target.parent.iterdir()] == ["here"]


def test_a_transfer_that_breaks_off_leaves_what_was_there(tmp_path, broken_url):
    target = tmp_path / "file"
    target.write_bytes(b"before")
    with pytest.raises(OSError, match=r"broke off"):
        download(broken_url, target, check=_nothing, progress=False)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_the_check_refuses_is_not_kept(tmp_path):
    (tmp_path / "there").write_bytes(b"content")
    with pytest.raises(ValueError, match="another file"):
        download((tmp_path / "there").as_uri(), tmp_path / "here", check=_refuse, progress=False)
    assert not (tmp_path / "here").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_writing_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")
    with pytest.raises(RuntimeError), replacing(target) as partial:  # noqa: PT012
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "before"
    with replacing(target) as partial:
        partial.write_text("after")
    assert target.read_text() == "after"
    assert list(tmp_path.iterdir()) == [target]
