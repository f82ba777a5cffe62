"""Starts a simulated cloud, or uses a running one, and makes SDK clients for it.

The address of a running cloud comes from ECSKMS_CLOUD (host:port). Without it the example `cloud` of package
ecskms-sim is started on a free port. Deliberately no test framework: each script is a list of functions that
assert, and it exits non-zero if any of them fails.
"""

import atexit
import json
import os
import pathlib
import subprocess
import sys
import time
import traceback
import urllib.request

from alibabacloud_tea_openapi.utils_models import Config, GlobalParameters
from darabonba.exceptions import DaraException

ROOT = pathlib.Path(__file__).resolve().parents[2]
REGION = "cn-hangzhou"
KEY = "key-hzz65f0a1b2c3d4e5f6a7b8"
SECOND_KEY = "key-hzz65f0a1b2c3d4e5f6a7c9"
DISABLED_KEY = "key-hzz65f0a1b2c3d4e5f6a7d0"
WAIT_SECONDS_MAX = 30


def address():
    """The address of the cloud, started if need be."""
    given = os.environ.get("ECSKMS_CLOUD")
    if given:
        return given
    command = ["cargo", "run", "-q", "-p", "ecskms-sim", "--example", "cloud", "--", "127.0.0.1:0", "600"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    line = process.stdout.readline().strip()
    assert line, "the cloud did not start"
    os.environ["ECSKMS_CLOUD"] = line
    return line


def config(key_id="pretend-access-key", secret="pretend-access-key-secret", token=None, region=REGION):
    """The configuration of an SDK client. KMS calls carry no region of their own: each gets a parameter."""
    return Config(
        access_key_id=key_id,
        access_key_secret=secret,
        security_token=token,
        region_id=region,
        endpoint=address(),
        protocol="HTTP",
        global_parameters=GlobalParameters(queries={"RegionId": region}),
    )


def limited(region=REGION):
    """The configuration of the access key that may not do everything."""
    return config("pretend-limited-key", "pretend-limited-key-secret", region=region)


def control(method, path, body=None):
    """A call to /_sim/."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{address()}/_sim/{path}",
        data=data,
        method=method,
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def refused(code, status, call, *arguments):
    """Asserts that a call is refused with exactly this code and HTTP status, and returns the exception."""
    try:
        call(*arguments)
    except DaraException as error:
        seen = (error.code, getattr(error, "status_code", None))
        assert seen == (code, status), f"expected {code} {status}, got {seen}: {error.message}"
        return error
    raise AssertionError(f"expected {code}, but the call succeeded")


def until(look, wanted, what):
    """Looks until `look()` answers `wanted`."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < end:
        seen = look()
        if seen == wanted:
            return
        time.sleep(0.02)
    raise AssertionError(f"{what}: wanted {wanted}, last seen {seen}")


def run(*tests):
    """Runs each test on a fresh account and exits."""
    failed = 0
    for test in tests:
        control("POST", "reset")
        try:
            test()
            print(f"ok      {test.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED  {test.__name__}")
            traceback.print_exc()
    print(f"{len(tests) - failed} of {len(tests)} passed")
    sys.exit(1 if failed else 0)
