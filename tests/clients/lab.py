"""Where outside clients are installed once; the Python half of lab.sh. WEIR_LAB moves it, WEIR_LOGS the logs of a run."""
import os
from pathlib import Path

LAB = Path(os.environ.get("WEIR_LAB") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir-lab")
LOGS = Path(os.environ.get("WEIR_LOGS") or LAB / "logs")
LAB.mkdir(parents=True, exist_ok=True)
LOGS.mkdir(parents=True, exist_ok=True)
