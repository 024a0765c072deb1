/* SPDX-License-Identifier: AGPL-3.0-only */
/* Sites of different wire versions (design section 3): what version they speak to each other, and
 * items of kinds that only a later one knows. */
#include "unit/engine/cluster.h"

#include "wire/version.h"
#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct cluster cluster; /* big */

static const uint8_t unknown[] = {0x93, CLUSTER_LATER_KIND, 0x80, 0xc0};

static struct node *node(int index)
{
    return &cluster.nodes[index];
}

static void beat_from_a(uint32_t version, uint32_t version_min)
{
    struct chp_beat beat;
    chp_engine_beat(node(0)->engine, "B", &cluster.now, &beat);
    beat.version = version;
    beat.version_min = version_min;
    struct chp_event event = {
        .kind = CHP_EVENT_BEAT,
        .now = cluster.now,
        .beat = {.from = "A",
                 .incarnation = chp_engine_incarnation(node(0)->engine),
                 .beat = &beat},
    };
    chp_engine_step(node(1)->engine, &event, node(1)->open);
}

static void the_highest_common_version_is_spoken(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    struct chp_peer_view view;
    assert_int_equal(chp_engine_version(node(1)->engine, "A"), CHP_WIRE_VERSION);
    cluster_reset(node(1), true);
    assert_int_equal(chp_engine_version(node(1)->engine, "A"), CHP_WIRE_VERSION_MIN); /* unheard */
    beat_from_a(1, 1);
    assert_int_equal(chp_engine_version(node(1)->engine, "A"), 1);
    beat_from_a(CHP_WIRE_VERSION + 1, CHP_WIRE_VERSION); /* it was upgraded, beyond us */
    assert_int_equal(chp_engine_version(node(1)->engine, "A"), CHP_WIRE_VERSION);
    beat_from_a(CHP_WIRE_VERSION + 2, CHP_WIRE_VERSION + 1);
    assert_int_equal(chp_engine_version(node(1)->engine, "A"), 0);
    assert_true(chp_engine_peer(node(1)->engine, 0, &view));
    assert_int_equal(view.version, 0);
    assert_int_equal(view.version_max, CHP_WIRE_VERSION + 2);
    assert_int_equal(view.version_min, CHP_WIRE_VERSION + 1);
    assert_true(view.up);
    beat_from_a(CHP_WIRE_VERSION, 1);
    assert_int_equal(chp_engine_version(node(1)->engine, "A"), CHP_WIRE_VERSION);
    cluster_stop(&cluster);
}

static uint64_t kept(int index)
{
    struct chp_peer_view view;
    assert_true(chp_engine_peer(node(index)->engine, 0, &view));
    return view.undecoded;
}

/* An operation of A whose item reaches B as one of a kind that is not known yet. */
static struct chp_uuid send_unknown(void)
{
    cluster.cut[0][1] = true;
    struct chp_uuid id = cluster_request(node(0), "r", "set", "A & B", NULL);
    cluster_settle(&cluster);
    for (size_t i = 0; i < cluster.message_count; i++) {
        struct cluster_message *message = &cluster.messages[i];
        if (message->key == CHP_KEY_OPERATION) {
            assert_int_equal(message->item.data[1], CHP_ITEM_OPERATION);
            message->item.data[1] = CLUSTER_LATER_KIND;
        }
    }
    cluster.cut[0][1] = false;
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(1), &id), 0);
    assert_int_equal(kept(1), 1);
    return id;
}

static void an_unknown_kind_waits_and_its_stream_goes_on(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    struct chp_uuid later = send_unknown();
    assert_int_equal(node(1)->dead_count, 0);
    struct chp_uuid other = cluster_request(node(0), "s", "set", "A & B", NULL);
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(1), &other), 1);
    /* Started again, without knowing it: it goes on waiting. */
    cluster_reset(node(1), true);
    cluster_settle(&cluster);
    assert_int_equal(kept(1), 1);
    assert_int_equal(cluster_count_runs(node(1), &later), 0);
    /* The version that knows it runs it, once; also when that is started twice. */
    cluster.upgraded = true;
    for (int i = 0; i < 2; i++) {
        cluster_reset(node(1), true);
        cluster_settle(&cluster);
        assert_int_equal(cluster_count_runs(node(1), &later), 1);
        assert_int_equal(kept(1), 0);
    }
    assert_int_equal(node(0)->completed_count, 2);
    cluster_stop(&cluster);
}

static void what_was_kept_is_not_lost_when_its_effects_are_not_committed(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    struct chp_uuid later = send_unknown();
    cluster.upgraded = true;
    for (int i = 0; i < 4; i++) {
        cluster_reset(node(1), false); /* what the start has made is thrown away */
    }
    cluster_settle(&cluster);
    assert_int_equal(cluster_count_runs(node(1), &later), 1);
    assert_int_equal(kept(1), 0);
    cluster_stop(&cluster);
}

static void unknown_kinds_in_other_queues_are_dropped(void **state)
{
    (void)state;
    cluster_start(&cluster, 2, 100, 64);
    size_t settled = node(1)->settled_count;
    cluster_inject(&cluster, 0, 1, 0, chp_bytes(unknown, sizeof unknown));
    cluster_settle(&cluster);
    assert_int_equal(node(1)->settled_count, settled + 1);
    assert_int_equal(kept(1), 0);
    cluster_stop(&cluster);
}

static void what_is_kept_is_bounded_and_then_the_stream_stops(void **state)
{
    (void)state;
    const struct chp_bytes item = chp_bytes(unknown, sizeof unknown);
    cluster_start(&cluster, 2, 100, 64);
    size_t settled = node(1)->settled_count;
    for (uint64_t number = 1; number <= CHP_UNDECODED_MAX + 10; number++) {
        cluster_inject(&cluster, 0, 1, number, item);
        if (number % 1000 == 0) {
            cluster_settle(&cluster);
        }
    }
    cluster_settle(&cluster);
    assert_int_equal(kept(1), CHP_UNDECODED_MAX);
    /* What there is no room for is settled, so that the queue goes on for others, and nobody asks
     * for it: it waits at its sender, since the mark stays. */
    assert_int_equal(node(1)->settled_count, settled + CHP_UNDECODED_MAX + 10);
    struct chp_mark marks[CHP_KEY_COUNT];
    size_t count = chp_engine_marks(node(1)->engine, "A", marks);
    assert_true(count > 0);
    assert_int_equal(marks[0].key, CHP_KEY_OPERATION);
    assert_int_equal(marks[0].n, CHP_UNDECODED_MAX);
    cluster_reset(node(1), true);
    cluster_settle(&cluster);
    cluster_inject(&cluster, 0, 1, CHP_UNDECODED_MAX + 1, item);
    cluster_settle(&cluster);
    assert_int_equal(kept(1), CHP_UNDECODED_MAX);
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_common_version_is_spoken),
        cmocka_unit_test(an_unknown_kind_waits_and_its_stream_goes_on),
        cmocka_unit_test(what_was_kept_is_not_lost_when_its_effects_are_not_committed),
        cmocka_unit_test(unknown_kinds_in_other_queues_are_dropped),
        cmocka_unit_test(what_is_kept_is_bounded_and_then_the_stream_stops),
    };
    return cmocka_run_group_tests_name("wire versions", tests, NULL, NULL);
}
