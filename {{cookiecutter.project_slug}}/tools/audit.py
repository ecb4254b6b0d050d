"""Look for known vulnerabilities in the versions of constraints.txt, by ``make audit``.

The arguments are the ids of vulnerabilities that do not affect the service. OSV_URL is another
service to ask. Without a network there is nothing to say: that is a failure in CI only.
"""

import os
import subprocess
import sys
from pathlib import Path

TOOLS = Path(sys.prefix, "tools")
"""Where ``make`` installs pip-audit."""
OSV_URL = "https://api.osv.dev/v1/query"
UNREACHABLE = ("requests.exceptions", "ServiceError", "ConnectionError")
"""What pip-audit says if the service does not respond, or not as it should."""


def main() -> int:
    """Run pip-audit and return its exit code."""
    url = os.environ.get("OSV_URL") or OSV_URL
    audit = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off"]
    versions = ["--requirement", "constraints.txt", "--no-deps", "--disable-pip"]
    service = ["--vulnerability-service", "osv", "--osv-url", url]
    ignored = [option for id_ in sys.argv[1:] for option in ("--ignore-vuln", id_)]
    done = subprocess.run(
        [*audit, *versions, *service, *ignored],
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        text=True,
        check=False,
    )
    # Vulnerabilities are on standard output, and everything else is on standard error.
    sys.stdout.write(done.stdout)
    summary = done.stderr.strip().rpartition("\n")[2]
    if done.returncode == 0 or done.stdout:
        print(summary, file=sys.stderr)
        return done.returncode
    print(f"Not audited: {summary}", file=sys.stderr)
    is_unreachable = any(name in done.stderr for name in UNREACHABLE)
    return 0 if is_unreachable and os.environ.get("CI") != "true" else done.returncode


if __name__ == "__main__":
    sys.exit(main())
