"""The official ECS SDK (alibabacloud-ecs20140526) against the simulated cloud: every action that it offers.

Deliberately asserts on the fields of the SDK's own models: what the SDK cannot parse is a failure here.
"""

from alibabacloud_ecs20140526 import models as m
from alibabacloud_ecs20140526.client import Client

from cloud_harness import DISABLED_KEY, KEY, REGION, SECOND_KEY, config, control, limited, refused, run, until

ALL = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"
WEB = "m-bp1web40g00000000001"
APP = "m-bp1app20g00000000002"
ZONE = "cn-hangzhou-i"
ecs = Client(config())


def image(image_id):
    found = ecs.describe_images(
        m.DescribeImagesRequest(region_id=REGION, image_id=image_id, status=ALL)
    ).body.images.image
    return found[0] if found else None


def disk(disk_id):
    found = ecs.describe_disks(
        m.DescribeDisksRequest(region_id=REGION, disk_ids=f'["{disk_id}"]')
    ).body.disks.disk
    return found[0] if found else None


def instance(instance_id):
    request = m.DescribeInstancesRequest(region_id=REGION, instance_ids=f'["{instance_id}"]')
    found = ecs.describe_instances(request).body.instances.instance
    return found[0] if found else None


def snapshot(snapshot_id):
    request = m.DescribeSnapshotsRequest(region_id=REGION, snapshot_ids=f'["{snapshot_id}"]')
    found = ecs.describe_snapshots(request).body.snapshots.snapshot
    return found[0] if found else None


def copy_request(**more):
    fields = dict(
        region_id=REGION,
        image_id=WEB,
        destination_region_id=REGION,
        destination_image_name="copy-1",
        encrypted=True,
        kmskey_id=KEY,
        client_token="token-1",
        tag=[m.CopyImageRequestTag(key="ecskms:uid", value="u1")],
    )
    return m.CopyImageRequest(**{**fields, **more})


def copies_an_image_under_a_key():
    control("PUT", "clock", {"scale": 0})
    reply = ecs.copy_image(copy_request()).body
    assert reply.request_id and reply.image_id.startswith("m-bp1")
    again = ecs.copy_image(copy_request()).body
    assert again.image_id == reply.image_id
    refused("IdempotentParameterMismatch", 400, ecs.copy_image, copy_request(kmskey_id=SECOND_KEY))
    refused(
        "OperationDenied.ImageCopying",
        403,
        ecs.copy_image,
        copy_request(client_token="token-2", destination_image_name="copy-2"),
    )
    hidden = ecs.describe_images(m.DescribeImagesRequest(region_id=REGION, image_id=reply.image_id)).body
    assert hidden.images.image == [] and image(reply.image_id).status == "Creating"
    control("PUT", "clock", {"scale": 600})
    until(lambda: image(reply.image_id).status, "Available", "the copy")
    done = image(reply.image_id)
    assert (done.progress, done.is_copied, done.size, done.image_name) == ("100%", True, 40, "copy-1")
    assert [(tag.tag_key, tag.tag_value) for tag in done.tags.tag] == [("ecskms:uid", "u1")]
    mappings = done.disk_device_mappings.disk_device_mapping
    assert [entry.type for entry in mappings] == ["system", "data"] and all(
        entry.encrypted for entry in mappings
    )
    for entry in mappings:
        behind = snapshot(entry.snapshot_id)
        assert behind.encrypted and behind.kmskey_id == KEY and behind.usage == "image" and behind.available
    tagged = m.DescribeImagesRequest(
        region_id=REGION,
        status=ALL,
        image_owner_alias="self",
        tag=[m.DescribeImagesRequestTag(key="ecskms:uid", value="u1")],
    )
    assert [one.image_id for one in ecs.describe_images(tagged).body.images.image] == [reply.image_id]


def cancels_a_copy_and_deletes_an_image():
    control("PUT", "clock", {"scale": 0})
    copy = ecs.copy_image(copy_request()).body.image_id
    assert image(copy).status == "Creating" and image(copy).progress == "0%"
    refused(
        "OperationDenied.ImageCopying",
        403,
        ecs.delete_image,
        m.DeleteImageRequest(region_id=REGION, image_id=WEB),
    )
    ecs.cancel_copy_image(m.CancelCopyImageRequest(region_id=REGION, image_id=copy))
    assert image(copy) is None
    refused(
        "ImageCreatedNotFromCopy",
        400,
        ecs.cancel_copy_image,
        m.CancelCopyImageRequest(region_id=REGION, image_id=APP),
    )
    ecs.delete_image(m.DeleteImageRequest(region_id=REGION, image_id=APP))
    assert image(APP) is None
    refused(
        "InvalidImageId.NotFound", 404, ecs.delete_image, m.DeleteImageRequest(region_id=REGION, image_id=APP)
    )
    refused(
        "ImageUsingByInstance", 403, ecs.delete_image, m.DeleteImageRequest(region_id=REGION, image_id=WEB)
    )
    control("PUT", "clock", {"scale": 600})


def modifies_and_creates_images():
    ecs.modify_image_attribute(
        m.ModifyImageAttributeRequest(
            region_id=REGION, image_id=APP, image_name="renamed", status="Deprecated"
        )
    )
    assert (image(APP).image_name, image(APP).status) == ("renamed", "Deprecated")
    made = ecs.create_image(
        m.CreateImageRequest(
            region_id=REGION,
            instance_id="i-bp1db0000000000000b2",
            image_name="from-machine",
            client_token="c1",
        )
    ).body.image_id
    until(lambda: image(made).status, "Available", "the image")
    assert [entry.encrypted for entry in image(made).disk_device_mappings.disk_device_mapping] == [True, True]
    one = ecs.create_image(
        m.CreateImageRequest(region_id=REGION, snapshot_id="s-bp1plain20g000000001")
    ).body.image_id
    until(lambda: image(one).status, "Available", "the image")
    assert image(one).size == 20


def creates_attaches_resizes_and_deletes_a_disk():
    request = m.CreateDiskRequest(
        region_id=REGION,
        zone_id=ZONE,
        disk_name="data-1",
        disk_category="cloud_essd",
        size=20,
        encrypted=True,
        kmskey_id=KEY,
        client_token="d1",
        tag=[m.CreateDiskRequestTag(key="owner", value="ecskms")],
    )
    made = ecs.create_disk(request).body.disk_id
    assert ecs.create_disk(request).body.disk_id == made
    until(lambda: disk(made).status, "Available", "the disk")
    seen = disk(made)
    assert (seen.encrypted, seen.kmskey_id, seen.size, seen.category) == (True, KEY, 20, "cloud_essd")
    assert (seen.performance_level, seen.type, seen.zone_id, seen.portable) == ("PL1", "data", ZONE, True)
    assert [(tag.tag_key, tag.tag_value) for tag in seen.tags.tag] == [("owner", "ecskms")]
    under = ecs.describe_disks(m.DescribeDisksRequest(region_id=REGION, kmskey_id=KEY, max_results=500)).body
    assert made in [one.disk_id for one in under.disks.disk] and len(under.disks.disk) == 3
    machine = "i-bp1web000000000000a1"
    ecs.attach_disk(m.AttachDiskRequest(instance_id=machine, disk_id=made))
    until(lambda: disk(made).status, "In_use", "the attachment")
    held = disk(made)
    assert held.instance_id == machine and held.attachments.attachment[0].instance_id == machine
    refused("IncorrectDiskStatus", 403, ecs.delete_disk, m.DeleteDiskRequest(disk_id=made))
    ecs.resize_disk(m.ResizeDiskRequest(disk_id=made, new_size=30, type="online", client_token="r1"))
    ecs.modify_disk_attribute(
        m.ModifyDiskAttributeRequest(region_id=REGION, disk_ids=[made], disk_name="data-2")
    )
    assert (disk(made).size, disk(made).disk_name) == (30, "data-2")
    ecs.detach_disk(m.DetachDiskRequest(instance_id=machine, disk_id=made))
    until(lambda: disk(made).status, "Available", "the detachment")
    refused(
        "InvalidDisk.AlreadyDetached",
        404,
        ecs.detach_disk,
        m.DetachDiskRequest(instance_id=machine, disk_id=made),
    )
    ecs.delete_disk(m.DeleteDiskRequest(disk_id=made))
    assert disk(made) is None


def refuses_what_keys_do_not_allow():
    def blank(**more):
        fields = dict(region_id=REGION, zone_id=ZONE, disk_category="cloud_essd", size=20, encrypted=True)
        return m.CreateDiskRequest(**{**fields, **more})

    refused("InvalidParameter.KMSKeyId.CMKNotEnabled", 403, ecs.create_disk, blank(kmskey_id=DISABLED_KEY))
    refused("InvalidParameter.KMSKeyId.NotFound", 404, ecs.create_disk, blank(kmskey_id="key-none"))
    refused(
        "InvalidKMSKeyId.NotSymmetric", 400, ecs.create_disk, blank(kmskey_id="key-hzz65f0a1b2c3d4e5f6a7f2")
    )
    refused("InvalidZoneId.NotFound", 404, ecs.create_disk, blank(zone_id="cn-hangzhou-zz"))
    refused("Zone.NotOnSale", 403, ecs.create_disk, blank(zone_id="cn-hangzhou-b"))
    refused("SizeExceed.Image", 403, ecs.copy_image, copy_request(image_id="m-bp1big600g0000000003"))
    refused(
        "IncorrectImageStatus",
        403,
        ecs.copy_image,
        copy_request(image_id="m-bp1broken00000000004", client_token="x"),
    )
    refused(
        "InvalidParameter.KMSKeyId.CMKNotEnabled",
        403,
        ecs.start_instance,
        m.StartInstanceRequest(instance_id="i-bp1lost00000000000d4"),
    )
    silent = ecs.create_disk(
        blank(zone_id=None, instance_id="i-bp1web000000000000a1", kmskey_id=KEY, client_token="s")
    ).body
    until(lambda: disk(silent.disk_id).status, "In_use", "the disk with an instance")
    assert disk(silent.disk_id).kmskey_id != KEY


def makes_and_copies_snapshots():
    made = ecs.create_snapshot(
        m.CreateSnapshotRequest(
            disk_id="d-bp1dbdata00000000004",
            snapshot_name="evidence",
            retention_days=7,
            client_token="s1",
            tag=[m.CreateSnapshotRequestTag(key="a", value="b")],
        )
    ).body.snapshot_id
    until(lambda: snapshot(made).status, "accomplished", "the snapshot")
    seen = snapshot(made)
    assert (seen.encrypted, seen.kmskey_id, seen.source_disk_size, seen.source_disk_type) == (
        True,
        KEY,
        "50",
        "data",
    )
    assert (seen.retention_days, seen.progress, seen.snapshot_name) == (7, "100%", "evidence")
    copy = ecs.copy_snapshot(
        m.CopySnapshotRequest(
            region_id=REGION,
            snapshot_id="s-bp1plain20g000000001",
            destination_region_id=REGION,
            encrypted=True,
            destination_snapshot_name="enc",
            destination_snapshot_description="under a key",
            kmskey_id=SECOND_KEY,
        )
    ).body.snapshot_id
    until(lambda: snapshot(copy).status, "accomplished", "the copied snapshot")
    assert (snapshot(copy).kmskey_id, snapshot(copy).source_snapshot_id) == (
        SECOND_KEY,
        "s-bp1plain20g000000001",
    )
    born = ecs.create_disk(
        m.CreateDiskRequest(
            region_id=REGION, zone_id=ZONE, disk_category="cloud_essd", snapshot_id=copy, encrypted=True
        )
    ).body.disk_id
    until(lambda: disk(born).status, "Available", "the disk from a snapshot")
    assert (disk(born).kmskey_id, disk(born).source_snapshot_id, disk(born).size) == (SECOND_KEY, copy, 20)
    refused("SnapshotCreatedDisk", 403, ecs.delete_snapshot, m.DeleteSnapshotRequest(snapshot_id=copy))
    ecs.delete_snapshot(m.DeleteSnapshotRequest(snapshot_id=copy, force=True))
    assert snapshot(copy) is None


def runs_and_ends_instances():
    request = m.RunInstancesRequest(
        region_id=REGION,
        image_id=APP,
        instance_type="ecs.g7.large",
        amount=2,
        zone_id=ZONE,
        v_switch_id="vsw-1",
        security_group_id="sg-1",
        instance_name="demo",
        client_token="run-1",
        http_endpoint="enabled",
        http_tokens="required",
        key_pair_name="ops",
        deletion_protection=False,
        system_disk=m.RunInstancesRequestSystemDisk(
            category="cloud_essd", size="40", encrypted="true", kmskey_id=KEY
        ),
        data_disk=[
            m.RunInstancesRequestDataDisk(category="cloud_essd", size=20, encrypted="true", kmskey_id=KEY)
        ],
        tag=[m.RunInstancesRequestTag(key="a", value="b")],
    )
    made = ecs.run_instances(request).body.instance_id_sets.instance_id_set
    assert len(made) == 2 and ecs.run_instances(request).body.instance_id_sets.instance_id_set == made
    for one in made:
        until(lambda: instance(one).status, "Running", "the instance")
    held = ecs.describe_disks(m.DescribeDisksRequest(region_id=REGION, instance_id=made[0])).body.disks.disk
    assert sorted(one.type for one in held) == ["data", "system"] and {one.kmskey_id for one in held} == {KEY}
    seen = instance(made[0])
    assert (seen.cpu, seen.memory, seen.image_id, seen.zone_id) == (2, 8192, APP, ZONE)
    assert all(one.tags.tag[0].tag_key == "a" for one in held), "disks carry the tags of their instance"
    assert (seen.metadata_options.http_tokens, seen.key_pair_name) == ("required", "ops")
    tagged = m.DescribeInstancesRequest(
        region_id=REGION, max_results=100, tag=[m.DescribeInstancesRequestTag(key="a", value="b")]
    )
    assert {one.instance_id for one in ecs.describe_instances(tagged).body.instances.instance} == set(made)
    assert seen.tags.tag[0].tag_key == "a" and seen.vpc_attributes.v_switch_id == "vsw-1"
    ecs.stop_instance(m.StopInstanceRequest(instance_id=made[0], force_stop=True))
    until(lambda: instance(made[0]).status, "Stopped", "the stop")
    refused(
        "DryRunOperation", 400, ecs.start_instance, m.StartInstanceRequest(instance_id=made[0], dry_run=True)
    )
    replaced = ecs.replace_system_disk(
        m.ReplaceSystemDiskRequest(
            instance_id=made[0], image_id=APP, encrypted=True, kmskey_id=SECOND_KEY, client_token="rep"
        )
    ).body.disk_id
    until(lambda: disk(replaced).status, "In_use", "the replaced disk")
    assert disk(replaced).kmskey_id == SECOND_KEY
    ecs.start_instance(m.StartInstanceRequest(instance_id=made[0]))
    until(lambda: instance(made[0]).status, "Running", "the start")
    ecs.reboot_instance(m.RebootInstanceRequest(instance_id=made[0]))
    until(lambda: instance(made[0]).status, "Running", "the reboot")
    answers = ecs.stop_instances(
        m.StopInstancesRequest(
            region_id=REGION, instance_id=[made[0], made[1], "i-none"], batch_optimization="SuccessFirst"
        )
    ).body
    codes = [one.code for one in answers.instance_responses.instance_response]
    assert codes == ["200", "200", "InvalidInstanceId.NotFound"], codes
    for one in made:
        until(lambda: instance(one).status, "Stopped", "the batch stop")
    ecs.start_instances(m.StartInstancesRequest(region_id=REGION, instance_id=made))
    statuses = ecs.describe_instance_status(
        m.DescribeInstanceStatusRequest(region_id=REGION, instance_id=made)
    ).body
    assert {one.instance_id for one in statuses.instance_statuses.instance_status} == set(made)
    ecs.modify_instance_attribute(
        m.ModifyInstanceAttributeRequest(instance_id=made[0], deletion_protection=True)
    )
    until(lambda: instance(made[0]).status, "Running", "the batch start")
    refused(
        "InvalidOperation.DeletionProtection",
        403,
        ecs.delete_instance,
        m.DeleteInstanceRequest(instance_id=made[0], force=True),
    )
    until(lambda: instance(made[1]).status, "Running", "the batch start")
    ecs.reboot_instances(m.RebootInstancesRequest(region_id=REGION, instance_id=[made[1]], force_reboot=True))
    until(lambda: instance(made[1]).status, "Running", "the batch reboot")
    ecs.delete_instance(m.DeleteInstanceRequest(instance_id=made[1], force=True))
    assert instance(made[1]) is None
    ecs.modify_instance_attribute(m.ModifyInstanceAttributeRequest(instance_id=made[0], instance_name="kept"))
    assert (instance(made[0]).instance_name, instance(made[0]).deletion_protection) == ("kept", True)


def gives_up_instances_without_stock():
    control("PUT", "settings", {"stockFailures": 1, "vswitches": ["vsw-1"]})
    request = m.RunInstancesRequest(
        region_id=REGION, image_id=APP, instance_type="ecs.g7.large", zone_id=ZONE, v_switch_id="vsw-2"
    )
    refused("InvalidVSwitchId.NotFound", 404, ecs.run_instances, request)
    request.v_switch_id = "vsw-1"
    made = ecs.run_instances(request).body.instance_id_sets.instance_id_set[0]
    until(lambda: instance(made), None, "the stock failure")
    again = ecs.run_instances(request).body.instance_id_sets.instance_id_set[0]
    until(lambda: instance(again).status, "Running", "the second instance")
    control("PUT", "settings", {"vswitches": []})


def tags_and_lists_tags():
    ids = [APP, WEB]
    ecs.tag_resources(
        m.TagResourcesRequest(
            region_id=REGION,
            resource_type="image",
            resource_id=ids,
            tag=[m.TagResourcesRequestTag(key="team", value="web")],
        )
    )
    rows = ecs.list_tag_resources(
        m.ListTagResourcesRequest(
            region_id=REGION, resource_type="image", tag=[m.ListTagResourcesRequestTag(key="team")]
        )
    ).body
    seen = [(row.resource_id, row.tag_key, row.tag_value) for row in rows.tag_resources.tag_resource]
    assert seen == [(one, "team", "web") for one in sorted(ids)], seen
    ecs.untag_resources(
        m.UntagResourcesRequest(region_id=REGION, resource_type="image", resource_id=ids, tag_key=["team"])
    )
    assert image(APP).tags.tag == []
    refused(
        "InvalidTagKey.Malformed",
        400,
        ecs.tag_resources,
        m.TagResourcesRequest(
            region_id=REGION,
            resource_type="image",
            resource_id=ids,
            tag=[m.TagResourcesRequestTag(key="acs:x", value="y")],
        ),
    )


def shows_the_topology():
    regions = ecs.describe_regions(m.DescribeRegionsRequest()).body.regions.region
    assert REGION in [one.region_id for one in regions] and all(one.region_endpoint for one in regions)
    zones = ecs.describe_zones(m.DescribeZonesRequest(region_id=REGION)).body.zones.zone
    sold = {one.zone_id: one.available_disk_categories.disk_categories for one in zones}
    assert "cloud_essd" in sold[ZONE] and "cloud_essd" not in sold["cn-hangzhou-b"]
    stock = ecs.describe_available_resource(
        m.DescribeAvailableResourceRequest(region_id=REGION, destination_resource="DataDisk", zone_id=ZONE)
    ).body.available_zones.available_zone
    offered = stock[0].available_resources.available_resource[0].supported_resources.supported_resource
    assert "cloud_essd" in [one.value for one in offered]
    attributes = ecs.describe_account_attributes(
        m.DescribeAccountAttributesRequest(region_id=REGION, attribute_name=["max-images"])
    ).body.account_attribute_items.account_attribute_item
    assert attributes[0].attribute_values.value_item[0].value == "100"
    refused(
        "InvalidRegionId.NotFound", 404, ecs.describe_zones, m.DescribeZonesRequest(region_id="cn-nowhere")
    )


def switches_default_encryption():
    def on():
        return ecs.describe_disk_encryption_by_default_status(
            m.DescribeDiskEncryptionByDefaultStatusRequest(region_id=REGION)
        ).body.encrypted

    def key():
        return ecs.describe_disk_default_kmskey_id(
            m.DescribeDiskDefaultKMSKeyIdRequest(region_id=REGION)
        ).body.kmskey_id

    assert on() is False
    refused(
        "InvalidDefaultEncryption.NotFound",
        403,
        ecs.reset_disk_default_kmskey_id,
        m.ResetDiskDefaultKMSKeyIdRequest(region_id=REGION),
    )
    ecs.enable_disk_encryption_by_default(m.EnableDiskEncryptionByDefaultRequest(region_id=REGION))
    assert on() is True and key() == "9d1e7f42-6c8b-4a35-b0d1-e2f3a4b5c6d7"
    ecs.modify_disk_default_kmskey_id(m.ModifyDiskDefaultKMSKeyIdRequest(region_id=REGION, kmskey_id=KEY))
    assert key() == KEY
    plain = m.CreateDiskRequest(region_id=REGION, zone_id=ZONE, disk_category="cloud_essd", size=20)
    refused("InvalidEncrypted.NotMatchDiskDefaultEncryption", 403, ecs.create_disk, plain)
    ecs.reset_disk_default_kmskey_id(m.ResetDiskDefaultKMSKeyIdRequest(region_id=REGION))
    ecs.disable_disk_encryption_by_default(m.DisableDiskEncryptionByDefaultRequest(region_id=REGION))
    assert on() is False


def walks_pages():
    for number in range(23):
        control(
            "POST",
            "resources",
            {"do": "create", "kind": "disk", "fields": {"sizeGib": 20, "name": f"page-{number}"}},
        )
    seen, token = [], None
    while True:
        page = ecs.describe_disks(
            m.DescribeDisksRequest(region_id=REGION, max_results=10, next_token=token)
        ).body
        seen += [one.disk_id for one in page.disks.disk]
        token = page.next_token
        if not token:
            break
    assert len(seen) == len(set(seen)) == 23 + 8, len(seen)
    numbered = ecs.describe_images(
        m.DescribeImagesRequest(
            region_id=REGION, image_owner_alias="self", status=ALL, page_size=3, page_number=3
        )
    ).body
    assert (numbered.total_count, numbered.page_number, len(numbered.images.image)) == (7, 3, 1)


def refuses_wrong_secrets_and_missing_permission():
    wrong = Client(config(secret="not-the-secret"))
    refused("SignatureDoesNotMatch", 400, wrong.describe_regions, m.DescribeRegionsRequest())
    unknown = Client(config(key_id="nobody"))
    refused("InvalidAccessKeyId.NotFound", 404, unknown.describe_regions, m.DescribeRegionsRequest())
    little = Client(limited())
    error = refused(
        "Forbidden.RAM",
        403,
        little.run_instances,
        m.RunInstancesRequest(region_id=REGION, image_id=APP, instance_type="ecs.g7.large"),
    )
    assert error.access_denied_detail["AuthAction"] == "ecs:RunInstances"
    control("PUT", "settings", {"limitedPolicy": {"Version": "1", "Statement": []}})
    assert (
        little.describe_instances(m.DescribeInstancesRequest(region_id=REGION)).body.instances.instance == []
    )
    refused("Forbidden.RAM", 403, little.describe_disks, m.DescribeDisksRequest(region_id=REGION))


def carries_the_delay_of_throttling():
    control("PUT", "settings", {"quotas": {"DescribeRegions": 1}})
    control("PUT", "clock", {"scale": 0.001})
    ecs.describe_regions(m.DescribeRegionsRequest())
    error = refused("Throttling.User", 400, ecs.describe_regions, m.DescribeRegionsRequest())
    assert type(error).__name__ == "ThrottlingException" and error.retry_after > 0
    control("PUT", "clock", {"scale": 600})


run(
    copies_an_image_under_a_key,
    cancels_a_copy_and_deletes_an_image,
    modifies_and_creates_images,
    creates_attaches_resizes_and_deletes_a_disk,
    refuses_what_keys_do_not_allow,
    makes_and_copies_snapshots,
    runs_and_ends_instances,
    gives_up_instances_without_stock,
    tags_and_lists_tags,
    shows_the_topology,
    switches_default_encryption,
    walks_pages,
    refuses_wrong_secrets_and_missing_permission,
    carries_the_delay_of_throttling,
)
