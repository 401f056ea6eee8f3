"""Local servers of weights: plain files, and Hugging Face's hub as its client sees it; both can break off."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator


class Files:
    """What a server has, and what it was asked for.

    Attributes:
      plain: Contents by path.
      commits: (commit, contents by file) by (repository, revision).
      broken: Paths or files whose next transfer stops after half, and the one after it fails.
      lies: Contents sent in the place of a file's own, of which the length and the digest are told.
      grown: The same, but sent with their own length.
      asked: (method, path) of all requests.
    """

    def __init__(self) -> None:
        self.plain: dict[str, bytes] = {}
        self.commits: dict[tuple[str, str], tuple[str, dict[str, bytes]]] = {}
        self.broken: dict[str, int] = {}
        self.lies: dict[str, bytes] = {}
        self.grown: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []

    def commit(self, repository: str, files: dict[str, bytes], *revisions: str) -> str:
        """Adds a commit under its hash and under branches or tags; returns the hash."""
        digest = hashlib.sha1(b"".join(files.values())).hexdigest()
        for revision in (digest, *revisions):
            self.commits[repository, revision] = digest, files
        return digest


def _digest(content: bytes, large: bool) -> str:
    return (
        hashlib.sha256(content).hexdigest()
        if large
        else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    )


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, Files]]:
    """Yields the address of a server and its files."""
    files = Files()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            files.asked.append((self.command, self.path))
            path = self.path.strip("/")
            if path in files.plain:
                self._send(path, files.plain[path], body)
            elif "/resolve/" in path:
                repository, _, rest = path.partition("/resolve/")
                revision, _, file = rest.partition("/")
                self._resolve(repository, revision, file, body)
            else:
                self._fail(404, "RepoNotFound")

        def _resolve(self, repository: str, revision: str, file: str, body: bool) -> None:
            if (repository, revision) not in files.commits:
                known = any(repository == name for name, _ in files.commits)
                self._fail(404, "RevisionNotFound" if known else "RepoNotFound")
                return
            commit, contents = files.commits[repository, revision]
            if file not in contents:
                self._fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
                return
            content, large = contents[file], file.endswith(".safetensors")
            headers = {"X-Repo-Commit": commit, "ETag": f'"{_digest(content, large)}"'}
            if not large:
                self._send(file, content, body, headers)
                return
            # Large files lie with somebody else; the hub itself tells their digest and length, and where.
            place = f"blobs/{_digest(content, True)}/{file}"
            files.plain[place] = content
            port = self.headers["Host"].rpartition(":")[2]
            address = f"http://localhost:{port}/{place}"  # the client follows redirections on one host by itself
            linked = {"X-Linked-Etag": headers.pop("ETag"), "X-Linked-Size": str(len(content)), "Location": address}
            self._head(302, {"ETag": '"of-the-redirection"', "Content-Length": "0"} | headers | linked)

        def _send(self, path: str, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
            file = path.rpartition("/")[2]
            content = files.grown.get(file, content)
            fails = files.broken.get(file, 0) if body else 0
            if fails == 1:
                files.broken[file] = 0
                self._fail(500, "")
                return
            self._head(200, (headers or {}) | {"Content-Length": str(len(content))})
            if body and fails:
                files.broken[file] = fails - 1
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif body:
                self.wfile.write(files.lies.get(file, content))

        def _fail(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
            self._head(status, (headers or {}) | {"X-Error-Code": code, "Content-Length": "0"})

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", files
    finally:
        server.shutdown()
        server.server_close()
