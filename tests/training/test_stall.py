from __future__ import annotations

import subprocess
import sys
import textwrap

SCRIPT = """
    import sys, time
    from dreamer.training import stall
    stall.EVERY_SECONDS = 0.05
    report = stall.StallReport(0.5)
    def busy():
        for _ in range(20):
            report.alive()
            time.sleep(0.05)
    def hangs_here():
        time.sleep(1.2)
    busy()
    print("busy enough", file=sys.stderr, flush=True)
    report.alive()
    hangs_here()
    report.close()
    time.sleep(0.7)
    print("the end", file=sys.stderr, flush=True)
"""


def test_silence_is_reported_with_the_place_again_and_again():
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True, timeout=60, check=True
    )
    before, after = result.stderr.split("busy enough")
    assert "Timeout" not in before
    assert after.count("Timeout") == 2
    assert after.count("hangs_here") == 2
    assert after.rstrip().endswith("the end")
