"""`bertune serve` beside what people write (FastAPI, a plain `def`, a transformers pipeline) and infinity-emb, in turn.

python -m benchmarks.serve [--clients 1 8 32 128] [--seconds 4] [--texts mrpc mixed] [--peers fastapi infinity]
    [--infinity /path/of/its/environment/bin/infinity_emb]

Closed loop: every client sends its next request, of one text, when it has its answer; all sides are warm, and serve
the same minilm classifier in the same precision. `server_cpu` and `clients_cpu` are the CPU seconds that the service
and the process of the clients took while a result was measured. infinity-emb pins older libraries and needs an
environment of its own: pip install torch==2.13.0 'infinity-emb[server,torch]'. Lines besides: `predict` on the same
rows (what a service could reach), a bare forward pass of one text, latency at 70 % of saturation (open loop). MRPC's
rows need BERTUNE_SHARED; without it they are made up. `make torture` asks 10,000 times at four times the capacity.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, machine, save_result
from benchmarks.workloads import WORDS, mrpc_folder


def texts(kind: str, count: int = 2000) -> list[str]:
    """Texts of MRPC's lengths (about 25 words), or of 10 to 400 words."""
    chance = random.Random(0)
    if kind == "mrpc":
        lines = (mrpc_folder() / "train.tsv").read_text(encoding="utf-8-sig").splitlines()[1:]
        return [" ".join(line.split("\t")[3:5]) for line in lines][:count]
    lengths = (chance.randint(8, 300) for _ in range(count))
    return [" ".join(chance.choices(WORDS, k=length)) for length in lengths]


def make_model(folder: Path) -> Path:
    """A minilm classifier of two labels; how well it answers does not matter here."""
    import bertune

    rows = [{"text": text, "label": str(i % 2)} for i, text in enumerate(texts("mixed", 64))]
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bertune.train(
        task="text-classification", encoder="minilm", train=str(data), output=str(folder / "model"), max_steps=2,
        max_seq_length=512,
    )  # fmt: skip
    return folder / "model"


PEER = """
import sys, torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline
dtype = getattr(torch, sys.argv[3])
classify = pipeline("text-classification", model=sys.argv[1], dtype=dtype, top_k=None)
app = FastAPI()
class Body(BaseModel):
    inputs: list[str]
@app.post("/predict")
def predict(body: Body):
    return {"predictions": classify(body.inputs, truncation=True)}
@app.get("/ready")
def ready():
    return {}
import uvicorn
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


@dataclass(frozen=True)
class Side:
    """A service that runs. ready_seconds: until it was ready.  body: text of a request around `%s`, a JSON string."""

    name: str
    pid: int
    port: int
    ready_seconds: float
    path: str
    body: str = '{"inputs": [%s]}'

    def cpu_seconds(self) -> float:
        """CPU time of the process so far."""
        values = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(name: str, command: Sequence[str], port: int, path: str, **others: str) -> Iterator[Side]:
    """A server process, once it is ready (`ready`: the address that says so)."""
    import httpx

    ready = others.pop("ready", "/ready")
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "DO_NOT_TRACK": "1"})  # infinity-emb calls home without it
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}{ready}", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                if process.poll() is not None:
                    raise RuntimeError(f"{command[:4]} ended") from None
            time.sleep(0.02)
        yield Side(name, process.pid, port, time.perf_counter() - began, path, **others)
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


CLIENT = '''
"""argv: port, path, clients, seconds, rate (0: closed loop), form of a body.
stdin: JSON list of texts. stdout: JSON result."""
import asyncio, json, sys, time
port, path, clients = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
seconds, rate = float(sys.argv[4]), float(sys.argv[5])
bodies = [(sys.argv[6] % json.dumps(text)).encode() for text in json.load(sys.stdin)]
latencies, statuses, place = [], {}, 0

async def ask(reader, writer, body):
    writer.write(b"POST %s HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\n"
                 b"Content-Length: %d\\r\\n\\r\\n"
                 % (path.encode(), len(body)) + body)
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    status = int(head.split(b" ", 2)[1])
    length = next(int(l.split(b":")[1]) for l in head.lower().split(b"\\r\\n") if l.startswith(b"content-length"))
    await reader.readexactly(length)
    statuses[status] = statuses.get(status, 0) + 1

async def closed(until):
    global place
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        place += 1
        began = time.perf_counter()
        await ask(reader, writer, bodies[place % len(bodies)])
        latencies.append(time.perf_counter() - began)
    writer.close()

async def open_loop(until):
    pool = asyncio.Queue()
    for _ in range(clients):
        pool.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    async def one(body, due):
        pair = await pool.get()
        await ask(*pair, body)
        pool.put_nowait(pair)
        latencies.append(time.perf_counter() - due)
    tasks, due, count = [], time.perf_counter(), 0
    while due < until:
        await asyncio.sleep(max(0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(bodies[count % len(bodies)], due)))
        count, due = count + 1, due + 1 / rate
    await asyncio.gather(*tasks)

async def main():
    began, cpu = time.perf_counter(), time.process_time()
    until = began + seconds
    await (open_loop(until) if rate else asyncio.gather(*(closed(until) for _ in range(clients))))
    taken = time.perf_counter() - began
    latencies.sort()
    at = lambda q: latencies[min(len(latencies) - 1, int(q * len(latencies)))] * 1000
    print(json.dumps({"rows_per_second": len(latencies) / taken, "p50_ms": at(0.5), "p95_ms": at(0.95),
                      "p99_ms": at(0.99), "statuses": statuses, "clients_cpu": time.process_time() - cpu}))

asyncio.run(main())
'''


def load(side: Side, clients: int, seconds: float, rows: Sequence[str], rate: float = 0.0) -> dict[str, Any]:
    """Requests of one text from a process of its own."""
    values = (side.port, side.path, clients, seconds, rate, side.body)
    command, cpu = [sys.executable, "-c", CLIENT, *map(str, values)], side.cpu_seconds()
    done = subprocess.run(command, input=json.dumps(rows), capture_output=True, text=True, check=True)
    found = dict(json.loads(done.stdout))
    return {"side": side.name, "clients": clients, **found, "server_cpu": side.cpu_seconds() - cpu}


def ours_alone(folder: Path, precision: str, rows: Sequence[str]) -> dict[str, float]:
    """Rows/s of `predict`, and milliseconds of a bare answer to one text."""
    import bertune

    model = bertune.load(folder, precision=precision)
    rows = rows[:600]
    model.predict(rows[:256])
    rates = [len(rows) / _seconds(lambda: model.predict(rows)) for _ in range(3)]
    single = [_seconds(lambda text=text: model.predict([text])) for text in rows[:100]]  # type: ignore[misc]
    return {"predict_rows_per_second": statistics.median(rates), "bare_ms": statistics.median(single) * 1000}


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Run everything and print a line of JSON a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--texts", nargs="+", default=["mrpc", "mixed"], choices=("mrpc", "mixed"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--model", type=Path, help="serve this folder; left out: a minilm classifier is trained")
    parser.add_argument("--peers", nargs="*", default=["fastapi"], choices=("fastapi", "infinity"))
    parser.add_argument("--infinity", default="infinity_emb", help="the program of infinity-emb")
    options = parser.parse_args()
    print(describe(machine()))
    with tempfile.TemporaryDirectory() as name:
        folder = options.model or make_model(Path(name))
        with ExitStack() as services:
            ours = services.enter_context(own_service(options, folder))
            save_result("serve", {"side": "bertune", "ready_seconds": ours.ready_seconds})
            sides = [ours, *(services.enter_context(peer(one, options, folder)) for one in options.peers)]
            for kind in options.texts:
                measured(options, kind, sides, ours_alone(folder, options.precision, texts(kind)))


def measured(options: argparse.Namespace, kind: str, sides: Sequence[Side], alone: dict[str, float]) -> None:
    """All sides under every number of clients, in turn, then our latency at 70 % of the best rate."""
    rows, best = texts(kind), 0.0
    save_result("serve", {"side": "predict", "texts": kind, **alone})
    for clients in options.clients:
        for side in sides:
            load(side, clients, 0.5, rows)  # warms up
            result = load(side, clients, options.seconds, rows)
            save_result("serve", {"texts": kind, **result})
            best = max(best, result["rows_per_second"] if side is sides[0] else 0.0)
    steady = load(sides[0], 256, options.seconds, rows, rate=0.7 * best)
    save_result("serve", {"open_loop_share": 0.7, "texts": kind, **steady})
    save_result("serve", {"texts": kind, "saturated_share_of_predict": best / alone["predict_rows_per_second"]})


def own_service(options: argparse.Namespace, folder: Path) -> AbstractContextManager[Side]:
    """`bertune serve` on a model."""
    port = free_port()
    program = [sys.executable, "-m", "bertune", "serve", "--model", f"m={folder}", "--port", str(port)]
    program += ["--precision", options.precision, "--no-access-log"]
    return running("bertune", program, port, "/v1/models/m/predict")


def peer(name: str, options: argparse.Namespace, folder: Path) -> AbstractContextManager[Side]:
    """The service that people write, or infinity-emb, in the same precision."""
    from bertune.hardware import choose_device, choose_dtype

    port, dtype = free_port(), str(choose_dtype(options.precision, choose_device("cpu"))).removeprefix("torch.")
    if name == "fastapi":
        return running(
            "fastapi+pipeline", [sys.executable, "-c", PEER, str(folder), str(port), dtype], port, "/predict"
        )
    program = [options.infinity, "v2", "--model-id", str(folder), "--served-model-name", "m", "--port", str(port)]
    program += [
        "--device",
        "cpu",
        "--engine",
        "torch",
        "--dtype",
        dtype,
        "--no-bettertransformer",
        "--log-level",
        "error",
    ]
    form = '{"model": "m", "input": [%s]}'
    return running("infinity-emb", program, port, "/classify", ready="/health", body=form)


if __name__ == "__main__":
    main()
