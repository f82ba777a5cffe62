"""The official credentials SDK (alibabacloud-credentials) against the simulated STS, metadata service and credentials URI.

Two things of the SDK are bent here, because they are fixed in it: its STS providers insist on https, so only the scheme
is changed on the way out; and the metadata host is a private attribute, so it is set. Its RamRoleArn provider signs
with HMAC-SHA1, which this simulation refuses on purpose: AssumeRole is made with the STS SDK, on top of lent
credentials.
"""

import base64
import json
import logging
import os
import tempfile
import time
import urllib.error
import urllib.request

from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.provider import (
    EcsRamRoleCredentialsProvider,
    OIDCRoleArnCredentialsProvider,
    RamRoleArnCredentialsProvider,
    URLCredentialsProvider,
)
from alibabacloud_sts20150401 import models as s
from alibabacloud_sts20150401.client import Client as Sts
from Tea.core import TeaCore

from cloud_harness import address, config, control, refused, run

ROLE_ARN = "acs:ram::1234567890123456:role/ecskms-operator"
PROVIDER_ARN = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-pretend"
GUEST_ARN = "acs:ram::2345678901234567:role/ecskms-guest"
ROLES = "/latest/meta-data/ram/security-credentials/"

# The SDK logs every refusal that a test asks for.
logging.disable(logging.CRITICAL)
send = TeaCore.do_action


def over_http(request, *arguments):
    """What the SDK would send by https, by http."""
    request.protocol = "http"
    return send(request, *arguments)


TeaCore.do_action = staticmethod(over_http)


def who(lent):
    """Whose credentials these are, by the STS SDK."""
    session = config(lent.get_access_key_id(), lent.get_access_key_secret(), lent.get_security_token())
    return Sts(session).get_caller_identity().body


def is_operator(lent):
    me = who(lent)
    assert (me.account_id, me.identity_type) == ("1234567890123456", "AssumedRoleUser"), me
    assert "assumed-role/ecskms-operator/" in me.arn, me.arn


def token(**claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    fields = {
        "iss": "https://pretend",
        "aud": "sts.aliyuncs.com",
        "sub": "system:serviceaccount:ecskms-system:ecskms",
        "exp": int(time.time()) + 600,
    }
    return f"{part({'alg': 'none'})}.{part({**fields, **claims})}.c2lnbmF0dXJl"


def fails(provider, *words):
    try:
        provider.get_credentials()
    except CredentialException as error:
        for word in words:
            assert word in str(error), error
        return
    raise AssertionError(f"expected a refusal with {words}")


class TokenFile:
    def __init__(self, text):
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write(text)
        self.path = file.name

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        os.unlink(self.path)


def oidc(path, **other):
    fields = {"role_arn": ROLE_ARN, "oidc_provider_arn": PROVIDER_ARN, **other}
    return OIDCRoleArnCredentialsProvider(
        oidc_token_file_path=path, role_session_name="test", sts_endpoint=address(), **fields
    )


def oidc_lends_to_a_good_token_and_to_no_other():
    with TokenFile(token()) as path:
        is_operator(oidc(path).get_credentials())
        fails(oidc(path, oidc_provider_arn=PROVIDER_ARN + "x"), "EntityNotExist.OIDCProvider")
        fails(oidc(path, role_arn=ROLE_ARN + "x"), "EntityNotExist.Role")
        fails(oidc(path, role_arn=GUEST_ARN), "AuthenticationFail.NoPermission")
        fails(oidc(path, duration_seconds=7200), "InvalidParameter.DurationSeconds")
    for bad, code in [
        (token(exp=1), "Expired"),
        (token(aud="other"), "Invalid"),
        ("a.b", "Invalid"),
        ("nonsense", "Invalid"),
    ]:
        with TokenFile(bad) as path:
            fails(oidc(path), f"AuthenticationFail.OIDCToken.{code}")


def a_uri_lends_until_the_session_ends():
    lent = URLCredentialsProvider(uri=f"http://{address()}/_sim/credentials?seconds=900").get_credentials()
    is_operator(lent)
    control("DELETE", "sessions")
    session = config(lent.get_access_key_id(), lent.get_access_key_secret(), lent.get_security_token())
    refused("InvalidSecurityToken.Expired", 400, Sts(session).get_caller_identity)
    fails(URLCredentialsProvider(uri=f"http://{address()}/_sim/credentials?role=nobody"), "404")


def instance(**arguments):
    provider = EcsRamRoleCredentialsProvider(async_update_enabled=False, **arguments)
    provider._EcsRamRoleCredentialsProvider__metadata_service_host = address()
    return provider


def the_instance_lends_its_role_to_who_shows_a_token():
    is_operator(instance(disable_imds_v1=True).get_credentials())
    is_operator(instance(disable_imds_v1=True, role_name="ecskms-operator").get_credentials())
    fails(instance(disable_imds_v1=True, role_name="another"), "404")
    control("PUT", "settings", {"metadataRole": ""})
    fails(instance(disable_imds_v1=True), "404")


def without_a_token_the_instance_says_nothing_unless_it_is_an_old_one():
    def status():
        try:
            with urllib.request.urlopen(f"http://{address()}{ROLES}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    assert status() == (403, "")
    control("PUT", "settings", {"metadataTokenRequired": False})
    assert status() == (200, "ecskms-operator")


def lent_credentials_take_on_a_role_of_another_account():
    lent = URLCredentialsProvider(uri=f"http://{address()}/_sim/credentials?role=ecskms-operator").get_credentials()
    session = config(lent.get_access_key_id(), lent.get_access_key_secret(), lent.get_security_token())

    def ask(external_id):
        return s.AssumeRoleRequest(role_arn=GUEST_ARN, role_session_name="visit", external_id=external_id)

    # The operator's role may not take on others; the administrator may.
    refused("NoPermission", 403, Sts(session).assume_role, ask("pretend-external-id"))
    refused("NoPermission", 403, Sts(config()).assume_role, ask("wrong"))
    given = Sts(config()).assume_role(ask("pretend-external-id")).body.credentials
    guest = config(given.access_key_id, given.access_key_secret, given.security_token)
    assert Sts(guest).get_caller_identity().body.account_id == "2345678901234567"
    old = RamRoleArnCredentialsProvider(
        access_key_id="pretend-access-key",
        access_key_secret="pretend-access-key-secret",
        role_arn=ROLE_ARN,
        role_session_name="old",
        sts_endpoint=address(),
    )
    fails(old, "IncompleteSignature")


run(
    oidc_lends_to_a_good_token_and_to_no_other,
    a_uri_lends_until_the_session_ends,
    the_instance_lends_its_role_to_who_shows_a_token,
    without_a_token_the_instance_says_nothing_unless_it_is_an_old_one,
    lent_credentials_take_on_a_role_of_another_account,
)
