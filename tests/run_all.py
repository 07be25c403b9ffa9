"""Run every notebook and every test, over all processors: python tests/run_all.py [notebooks|tests] [pytest's arguments]"""
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent # nbdev-test of this environment
WORKERS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def run(name, *command): # -> exit code
    "Run one part with one thread per process, so that the workers do not fight for processors."
    env = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}", MPLBACKEND="Agg", TOKENIZERS_PARALLELISM="false",
               **{k: "1" for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    env.pop("PYTHONDONTWRITEBYTECODE", None) # compiling torch anew in every process costs more than the tests
    print(f"=== {name}, {WORKERS} workers", flush=True)
    start = time.perf_counter()
    code = subprocess.run([*map(str, command)], cwd=ROOT, env=env).returncode
    print(f"=== {name} {'passed' if code == 0 else 'FAILED'} in {(time.perf_counter() - start)/60:.1f} minutes", flush=True)
    return code


def main():
    parts = dict(notebooks=lambda: run("notebooks", BIN/"nbdev-test", "--n-workers", WORKERS, "--timing"),
                 tests=lambda: run("tests", sys.executable, "-m", "pytest", "-n", WORKERS, "--dist", "loadfile", "--durations", 10, *args))
    args = sys.argv[1:]
    wanted = [args.pop(0)] if args and args[0] in parts else list(parts)
    codes = [parts[o]() for o in wanted]
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__": main()
