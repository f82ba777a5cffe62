"""The official KMS SDK (alibabacloud-kms20160120) against the simulated cloud: every action of it."""

import json

from alibabacloud_kms20160120 import models as m
from alibabacloud_kms20160120.client import Client

from cloud_harness import DISABLED_KEY, KEY, SECOND_KEY, config, control, limited, refused, run

SERVICE_KEY = "9d1e7f42-6c8b-4a35-b0d1-e2f3a4b5c6d7"
DOOMED_KEY = "key-hzz65f0a1b2c3d4e5f6a7e1"
kms = Client(config())
shanghai = Client(config(region="cn-shanghai"))


def key(named):
    return kms.describe_key(m.DescribeKeyRequest(key_id=named)).body.key_metadata


def describes_keys_by_id_arn_and_alias():
    seen = key(KEY)
    assert (seen.key_id, seen.key_state, seen.key_spec, seen.key_usage) == (
        KEY,
        "Enabled",
        "Aliyun_AES_256",
        "ENCRYPT/DECRYPT",
    )
    assert (
        seen.arn == f"acs:kms:cn-hangzhou:1234567890123456:key/{KEY}" and seen.creator == "1234567890123456"
    )
    assert key(seen.arn).key_id == KEY and key("alias/ecskms-demo").key_id == KEY
    service = key("alias/acs/ecs")
    assert (service.key_id, service.creator) == (SERVICE_KEY, "Ecs")
    doomed = key(DOOMED_KEY)
    assert doomed.key_state == "PendingDeletion" and doomed.delete_date
    refused("Forbidden.KeyNotFound", 404, key, "key-none")
    refused("Forbidden.AliasNotFound", 404, key, "alias/none")
    refused("Forbidden.KeyNotFound", 404, shanghai.describe_key, m.DescribeKeyRequest(key_id=KEY))


def lists_and_filters_keys():
    def listed(*filters):
        text = json.dumps([{"Key": name, "Values": values} for name, values in filters])
        return kms.list_keys(m.ListKeysRequest(filters=text, page_size=100)).body

    assert listed(("KeyState", ["Disabled"])).keys.key[0].key_id == DISABLED_KEY
    assert listed(("CreatorType", ["Service"])).total_count == 1
    assert listed(("KeyState", ["Enabled"]), ("KeySpec", ["RSA_2048"])).total_count == 1
    assert KEY in [one.key_id for one in listed(("TagKey", ["acs:ecs:disk-encryption"])).keys.key]
    page = kms.list_keys(m.ListKeysRequest(page_number=2, page_size=5)).body
    assert (page.total_count, len(page.keys.key), page.page_number) == (7, 2, 2)


def moves_keys_through_their_states():
    one = m.EnableKeyRequest(key_id=KEY)
    two = m.DisableKeyRequest(key_id=KEY)
    kms.disable_key(two)
    kms.disable_key(two)
    assert key(KEY).key_state == "Disabled"
    kms.schedule_key_deletion(m.ScheduleKeyDeletionRequest(key_id=KEY, pending_window_in_days=7))
    assert key(KEY).key_state == "PendingDeletion"
    refused("Rejected.StateModifiedFailed", 409, kms.enable_key, one)
    refused("Rejected.StateModifiedFailed", 409, kms.disable_key, two)
    kms.cancel_key_deletion(m.CancelKeyDeletionRequest(key_id=KEY))
    assert key(KEY).key_state == "Enabled"
    refused(
        "Rejected.StateModifiedFailed", 409, kms.cancel_key_deletion, m.CancelKeyDeletionRequest(key_id=KEY)
    )
    kms.enable_key(one)
    refused("Forbidden.NoPermission", 403, kms.disable_key, m.DisableKeyRequest(key_id=SERVICE_KEY))
    kms.schedule_key_deletion(m.ScheduleKeyDeletionRequest(key_id=KEY, pending_window_in_days=7))
    control("PUT", "clock", {"advanceSeconds": 8 * 86400})
    refused("Forbidden.KeyNotFound", 404, key, KEY)


def creates_keys():
    refused("Rejected.LimitExceeded", 400, kms.create_key, m.CreateKeyRequest())
    inside = kms.create_key(
        m.CreateKeyRequest(
            dkmsinstance_id="kst-hzz65f0a1b2c3d4e5f6a7b8",
            key_spec="Aliyun_AES_256",
            enable_automatic_rotation=True,
            rotation_interval="365d",
            tags='[{"TagKey":"team","TagValue":"web"}]',
            description="made by a test",
        )
    ).body.key_metadata
    assert (
        inside.key_id.startswith("key-hzz")
        and inside.key_state == "Enabled"
        and inside.automatic_rotation == "Enabled"
    )
    assert (
        kms.list_resource_tags(m.ListResourceTagsRequest(key_id=inside.key_id)).body.tags.tag[0].tag_value
        == "web"
    )
    outside = kms.create_key(m.CreateKeyRequest(origin="EXTERNAL", dkmsinstance_id="kst-1")).body.key_metadata
    assert outside.key_state == "PendingImport"


def keeps_aliases():
    kms.create_alias(m.CreateAliasRequest(key_id=KEY, alias_name="alias/web"))
    refused(
        "AliasAlreadyExists", 400, kms.create_alias, m.CreateAliasRequest(key_id=KEY, alias_name="alias/web")
    )
    refused(
        "InvalidParameter",
        400,
        kms.create_alias,
        m.CreateAliasRequest(key_id=KEY, alias_name="alias/acs/ecs"),
    )
    names = kms.list_aliases_by_key_id(m.ListAliasesByKeyIdRequest(key_id=KEY)).body.aliases.alias
    assert {one.alias_name for one in names} == {"alias/ecskms-demo", "alias/web"}
    kms.update_alias(m.UpdateAliasRequest(key_id=SECOND_KEY, alias_name="alias/web"))
    assert key("alias/web").key_id == SECOND_KEY
    everything = kms.list_aliases(m.ListAliasesRequest(page_size=100)).body
    assert everything.total_count == 8 and all(one.alias_arn for one in everything.aliases.alias)
    kms.delete_alias(m.DeleteAliasRequest(alias_name="alias/web"))
    refused("Forbidden.AliasNotFound", 404, key, "alias/web")


def tags_keys_in_both_ways():
    kms.tag_resource(m.TagResourceRequest(key_id=SECOND_KEY, tags='[{"TagKey":"a","TagValue":"1"}]'))
    kms.tag_resources(
        m.TagResourcesRequest(
            region_id="cn-hangzhou",
            resource_type="key",
            resource_id=[SECOND_KEY],
            tag=[m.TagResourcesRequestTag(key="b", value="2")],
        )
    )

    def tags():
        rows = kms.list_resource_tags(m.ListResourceTagsRequest(key_id=SECOND_KEY)).body.tags.tag
        return {row.tag_key: row.tag_value for row in rows}

    assert tags() == {"a": "1", "b": "2"}
    kms.untag_resource(m.UntagResourceRequest(key_id=SECOND_KEY, tag_keys='["a"]'))
    kms.untag_resources(
        m.UntagResourcesRequest(
            region_id="cn-hangzhou", resource_type="key", resource_id=[SECOND_KEY], tag_key=["b"]
        )
    )
    assert tags() == {}
    refused(
        "InvalidTagKey.Malformed",
        400,
        kms.untag_resources,
        m.UntagResourcesRequest(
            region_id="cn-hangzhou",
            resource_type="key",
            resource_id=[KEY],
            tag_key=["acs:ecs:disk-encryption"],
        ),
    )


def names_the_denied_action():
    little = Client(limited())
    assert little.describe_key(m.DescribeKeyRequest(key_id=KEY)).body.key_metadata.key_id == KEY
    error = refused("Forbidden.NoPermission", 403, little.disable_key, m.DisableKeyRequest(key_id=KEY))
    assert error.access_denied_detail["AuthAction"] == "kms:DisableKey"
    assert "cn-hangzhou" in [one.region_id for one in little.describe_regions().body.regions.region]


def throttles_and_can_be_closed():
    control("PUT", "clock", {"scale": 0.001})
    control("PUT", "settings", {"kmsWritesPerSecond": 2})
    for _ in range(2):
        kms.enable_key(m.EnableKeyRequest(key_id=KEY))
    refused("Rejected.Throttling", 429, kms.enable_key, m.EnableKeyRequest(key_id=KEY))
    control("PUT", "clock", {"scale": 600})
    control("PUT", "settings", {"kmsOpened": False})
    refused("Forbidden.KmsServiceNotEnabled", 403, key, KEY)


run(
    describes_keys_by_id_arn_and_alias,
    lists_and_filters_keys,
    moves_keys_through_their_states,
    creates_keys,
    keeps_aliases,
    tags_keys_in_both_ways,
    names_the_denied_action,
    throttles_and_can_be_closed,
)
