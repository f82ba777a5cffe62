"""The official RAM and STS SDKs (alibabacloud-ram20150501, -sts20150401) against the simulated cloud."""

import base64
import json
import time

from alibabacloud_ecs20140526 import models as ecs_models
from alibabacloud_ecs20140526.client import Client as Ecs
from alibabacloud_ram20150501 import models as m
from alibabacloud_ram20150501.client import Client as Ram
from alibabacloud_sts20150401 import models as s
from alibabacloud_sts20150401.client import Client as Sts

from cloud_harness import KEY, REGION, config, control, limited, refused, run

ROLE = "AliyunECSDiskEncryptDefaultRole"
POLICY = "AliyunECSDiskEncryptRolePolicy"
OWN_ROLE_ARN = "acs:ram::1234567890123456:role/ecskms-operator"
PROVIDER = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-pretend"
ram = Ram(config())
sts = Sts(config())


def policies():
    rows = ram.list_policies_for_role(m.ListPoliciesForRoleRequest(role_name=ROLE)).body.policies.policy
    return [(row.policy_name, row.policy_type) for row in rows]


def shows_roles_and_policies():
    role = ram.get_role(m.GetRoleRequest(role_name=ROLE)).body.role
    assert (
        role.role_name == ROLE
        and role.arn.endswith(ROLE.lower())
        and "ecs.aliyuncs.com" in role.assume_role_policy_document
    )
    assert policies() == [(POLICY, "System")]
    policy = ram.get_policy(m.GetPolicyRequest(policy_name=POLICY, policy_type="System")).body
    document = json.loads(policy.default_policy_version.policy_document)
    assert document["Statement"] and policy.policy.attachment_count == 1
    first = ram.list_roles(m.ListRolesRequest(max_items=1)).body
    second = ram.list_roles(m.ListRolesRequest(max_items=1, marker=first.marker)).body
    assert first.is_truncated and not second.is_truncated
    assert [first.roles.role[0].role_name, second.roles.role[0].role_name] == [ROLE, "ecskms-operator"]
    refused("EntityNotExist.Role", 404, ram.get_role, m.GetRoleRequest(role_name="none"))


def moves_the_grant_of_ecs():
    ecs = Ecs(config())
    blank = ecs_models.CreateDiskRequest(
        region_id=REGION,
        zone_id="cn-hangzhou-i",
        disk_category="cloud_essd",
        size=20,
        encrypted=True,
        kmskey_id=KEY,
    )
    detach = m.DetachPolicyFromRoleRequest(policy_name=POLICY, policy_type="System", role_name=ROLE)
    attach = m.AttachPolicyToRoleRequest(policy_name=POLICY, policy_type="System", role_name=ROLE)
    ram.detach_policy_from_role(detach)
    assert policies() == []
    refused("EntityNotExist.Role.Policy", 404, ram.detach_policy_from_role, detach)
    refused("InvalidParameter.KMSKeyId.KMSUnauthorized", 403, ecs.create_disk, blank)
    ram.attach_policy_to_role(attach)
    refused("EntityAlreadyExists.Role.Policy", 409, ram.attach_policy_to_role, attach)
    assert ecs.create_disk(blank).body.disk_id


def makes_and_deletes_roles():
    trust = json.dumps(
        {
            "Version": "1",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": "sts:AssumeRole",
                    "Principal": {"Service": ["ecs.aliyuncs.com"]},
                }
            ],
        }
    )
    create = m.CreateRoleRequest(role_name="made", assume_role_policy_document=trust, description="by a test")
    assert ram.create_role(create).body.role.role_name == "made"
    refused("EntityAlreadyExists.Role", 409, ram.create_role, create)
    ram.attach_policy_to_role(
        m.AttachPolicyToRoleRequest(policy_name=POLICY, policy_type="System", role_name="made")
    )
    refused("DeleteConflict.Role.Policy", 409, ram.delete_role, m.DeleteRoleRequest(role_name="made"))
    ram.detach_policy_from_role(
        m.DetachPolicyFromRoleRequest(policy_name=POLICY, policy_type="System", role_name="made")
    )
    ram.delete_role(m.DeleteRoleRequest(role_name="made"))
    refused("EntityNotExist.Role", 404, ram.get_role, m.GetRoleRequest(role_name="made"))


def knows_the_caller():
    me = sts.get_caller_identity().body
    assert (me.account_id, me.identity_type) == ("1234567890123456", "RAMUser") and me.arn.endswith(
        "user/ecskms-administrator"
    )
    little = Ram(limited())
    error = refused(
        "NoPermission",
        403,
        little.detach_policy_from_role,
        m.DetachPolicyFromRoleRequest(policy_name=POLICY, policy_type="System", role_name=ROLE),
    )
    assert error.access_denied_detail["AuthAction"] == "ram:DetachPolicyFromRole"


def becomes_a_role():
    reply = sts.assume_role(
        s.AssumeRoleRequest(role_arn=OWN_ROLE_ARN, role_session_name="test", duration_seconds=900)
    ).body
    given = reply.credentials
    assert given.expiration and reply.assumed_role_user.arn.endswith("assumed-role/ecskms-operator/test")
    session = config(given.access_key_id, given.access_key_secret, given.security_token)
    me = Sts(session).get_caller_identity().body
    assert me.identity_type == "AssumedRoleUser"
    assert Ecs(session).describe_disks(ecs_models.DescribeDisksRequest(region_id=REGION)).body.disks.disk
    ecs = Ecs(session)
    refused(
        "Forbidden.RAM", 403, ecs.delete_disk, ecs_models.DeleteDiskRequest(disk_id="d-bp1archive0000000001")
    )
    swapped = config(given.access_key_id, given.access_key_secret, "another-token")
    refused("InvalidSecurityToken.Malformed", 400, Sts(swapped).get_caller_identity)
    control("DELETE", "sessions")
    refused("InvalidSecurityToken.Expired", 400, Sts(session).get_caller_identity)
    refused(
        "NoPermission",
        403,
        sts.assume_role,
        s.AssumeRoleRequest(role_arn=f"acs:ram::1234567890123456:role/{ROLE}", role_session_name="test"),
    )


def becomes_a_role_with_oidc():
    def token(**claims):
        def part(value):
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        fields = {
            "iss": "https://pretend",
            "aud": "sts.aliyuncs.com",
            "sub": "system:serviceaccount:a:b",
            "exp": int(time.time()) + 600,
        }
        return f"{part({'alg': 'none'})}.{part({**fields, **claims})}.c2lnbmF0dXJl"

    def request(text, provider=PROVIDER):
        return s.AssumeRoleWithOIDCRequest(
            oidcprovider_arn=provider, role_arn=OWN_ROLE_ARN, oidctoken=text, role_session_name="test"
        )

    reply = sts.assume_role_with_oidc(request(token())).body
    assert reply.oidctoken_info.subject == "system:serviceaccount:a:b"
    given = reply.credentials
    me = (
        Sts(config(given.access_key_id, given.access_key_secret, given.security_token))
        .get_caller_identity()
        .body
    )
    assert me.identity_type == "AssumedRoleUser"
    refused("AuthenticationFail.OIDCToken.Expired", 400, sts.assume_role_with_oidc, request(token(exp=1)))
    refused(
        "AuthenticationFail.OIDCToken.Invalid", 400, sts.assume_role_with_oidc, request(token(aud="other"))
    )
    refused("AuthenticationFail.OIDCToken.Invalid", 400, sts.assume_role_with_oidc, request("nonsense"))
    refused("EntityNotExist.OIDCProvider", 404, sts.assume_role_with_oidc, request(token(), PROVIDER + "x"))


run(
    shows_roles_and_policies,
    moves_the_grant_of_ecs,
    makes_and_deletes_roles,
    knows_the_caller,
    becomes_a_role,
    becomes_a_role_with_oidc,
)
