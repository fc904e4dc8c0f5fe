"""A small server on the loopback that speaks the Hugging Face Hub's protocol, with faults on demand."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Repo:
    """A model: files of every revision; `gated` ones are refused, `cut` maps a file to how often it breaks off half.

    stalled: files of which two thirds are sent, and then nothing for a long time.  sha256: whether hashes are SHA-256.
    lies: of what content the hash is told instead.
    """

    revisions: dict[str, dict[str, bytes]]
    gated: bool = False
    cut: dict[str, int] = field(default_factory=dict)
    stalled: set[str] = field(default_factory=set)
    sha256: bool = False
    lies: dict[str, bytes] = field(default_factory=dict)

    def commit(self, revision: str) -> str:
        """A commit's hash for a branch; hashes stand for themselves."""
        known = {hashlib.sha1(name.encode()).hexdigest() for name in self.revisions}
        return revision if revision in known else hashlib.sha1(revision.encode()).hexdigest()

    def files(self, revision: str) -> dict[str, bytes] | None:
        """The files of a branch or commit."""
        return next((files for name, files in self.revisions.items() if revision in (name, self.commit(name))), None)


@dataclass
class Hub:
    """The server: its address, and what it was asked for."""

    endpoint: str
    requests: list[str]

    def downloads(self) -> list[str]:
        """Names of the files whose content was asked for."""
        return [line.split("/")[-1] for line in self.requests if line.startswith("GET ") and "/resolve/" in line]


@contextmanager
def served(repos: Mapping[str, Repo]) -> Iterator[Hub]:
    """Serve models until the context ends."""
    requests: list[str] = []
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            span = f" {self.headers['Range']}" if "Range" in self.headers else ""
            requests.append(f"{self.command} {'/'.join(parts)}{span}")
            api = parts[:2] == ["api", "models"]
            parts = parts[2:] if api else parts
            repo, rest = repos.get("/".join(parts[:2])), parts[2:]
            if repo is None:
                return self.fault(404, "RepoNotFound", "Repository not found")
            if repo.gated and not (api and rest[:1] != ["tree"]):
                return self.fault(403, "GatedRepo", "Access to this model is restricted")
            revision = rest[1] if len(rest) > 1 else "main"
            files = repo.files(revision)
            if files is None:
                return self.fault(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            if api and rest[:1] == ["tree"]:
                return self.json([self.entry(name, data) for name, data in files.items()])
            if api:
                siblings = [{"rfilename": name} for name in files]
                return self.json({"id": "/".join(parts[:2]), "sha": repo.commit(revision), "siblings": siblings})
            name = "/".join(rest[2:])
            if rest[:1] != ["resolve"] or name not in files:
                return self.fault(404, "EntryNotFound", "Entry not found")
            return self.file(repo, revision, name, with_body=with_body)

        def entry(self, name: str, data: bytes) -> dict[str, object]:
            return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

        def file(self, repo: Repo, revision: str, name: str, *, with_body: bool) -> None:
            data = (repo.files(revision) or {})[name]
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            kind = "sha256" if repo.sha256 else "sha1"
            self.send_header("ETag", f'"{hashlib.new(kind, repo.lies.get(name, data)).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("X-Repo-Commit", repo.commit(revision))
            self.end_headers()
            if not with_body:
                return
            if repo.cut.get(name, 0) > 0:
                repo.cut[name] -= 1
                self.wfile.write(data[start : start + (len(data) - start) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            if name in repo.stalled:
                self.wfile.write(data[start : start + (len(data) - start) * 2 // 3])
                self.wfile.flush()
                stop.wait(60)
                return
            self.wfile.write(data[start:])

        def json(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def fault(self, status: int, code: str, message: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", requests)
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
