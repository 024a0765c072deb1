/* SPDX-License-Identifier: AGPL-3.0-only */
/* schema/wire.md tells the truth: its examples decode, and what decodes or is built here encodes to
 * the same bytes. */
#include "samples.h"

#include "wire/payload.h"
#include "wire/request.h"

#include <stdio.h>

struct description {
    struct chp_arena arena;
    char *text;
};

static int load(void **state)
{
    static struct description description;
    char path[1024];
    const char *root = getenv("CHEOPS_SOURCE_DIR");
    assert_non_null(root);
    (void)snprintf(path, sizeof path, "%s/schema/wire.md", root);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    description.text = chp_arena_alloc(&description.arena, 1 << 18);
    size_t len = fread(description.text, 1, (1 << 18) - 1, file);
    (void)fclose(file);
    assert_in_range(len, 1, (1 << 18) - 2);
    *state = &description;
    return 0;
}

static int unload(void **state)
{
    struct description *description = *state;
    chp_arena_deinit(&description->arena);
    return 0;
}

/* Bytes of the example called name. */
static struct chp_bytes example(struct description *description, const char *name)
{
    char *fence = chp_arena_printf(&description->arena, "```hex %s\n", name);
    const char *start = strstr(description->text, fence);
    if (start == NULL) {
        fail_msg("no example %s", name);
        return chp_bytes(NULL, 0);
    }
    start += strlen(fence);
    const char *end = strstr(start, "\n```");
    assert_non_null(end);
    return unhex(&description->arena,
                 chp_arena_strndup(&description->arena, start, (size_t)(end - start)));
}

static void is_example(struct description *description, const char *name, struct chp_buf *out)
{
    if (!chp_bytes_equal(example(description, name), chp_buf_bytes(out))) {
        fail_msg("example %s is not what is encoded", name);
    }
    chp_buf_deinit(out);
}

static void items_decode_and_encode_to_the_same(void **state)
{
    static const char *const names[] = {
        [CHP_ITEM_OPERATION] = "item-operation", [CHP_ITEM_ACK] = "item-ack",
        [CHP_ITEM_WANT] = "item-want",           [CHP_ITEM_SHOW] = "item-show",
        [CHP_ITEM_ANSWER] = "item-answer",       [CHP_ITEM_FETCH] = "item-fetch",
        [CHP_ITEM_CHUNK] = "item-chunk",         [CHP_ITEM_BEAT] = "item-beat",
        [CHP_ITEM_REPAIR] = "item-repair",       [CHP_ITEM_PAST] = "item-past",
        [CHP_ITEM_NONE] = "item-none",           [CHP_ITEM_REPORT] = "item-report",
        [CHP_ITEM_REPORTED] = "item-reported",   [CHP_ITEM_REINCARNATE] = "item-reincarnate",
        [CHP_ITEM_RESOLVE] = "item-resolve",     [CHP_ITEM_RESOLVED] = "item-resolved",
    };
    struct description *description = *state;
    for (size_t kind = CHP_ITEM_OPERATION; kind <= CHP_ITEM_RESOLVED; kind++) {
        struct chp_item item;
        struct chp_error error = {0};
        struct chp_buf out = {0};
        if (chp_item_decode(example(description, names[kind]), &description->arena, &item,
                            &error) != 0) {
            fail_msg("%s: %s", names[kind], error.text);
        }
        assert_int_equal(item.kind, kind);
        assert_int_equal(chp_item_encode(&item, &out, &error), 0);
        is_example(description, names[kind], &out);
    }
}

static void the_message_decodes_and_encodes_to_the_same(void **state)
{
    struct description *description = *state;
    struct chp_message message;
    struct chp_buf out = {0};
    assert_int_equal(
        chp_message_decode(example(description, "message"), &description->arena, &message, NULL),
        0);
    assert_int_equal(message.item_count, 1);
    assert_true(chp_bytes_equal(message.items[0], example(description, "item-want")));
    chp_message_encode(&message.header, message.items, message.item_count, &out);
    is_example(description, "message", &out);
}

static void requests_become_the_payloads(void **state)
{
    struct description *description = *state;
    struct chp_request request;
    assert_int_equal(
        chp_request_decode(example(description, "request"), &description->arena, &request, NULL),
        0);
    assert_true(chp_bytes_equal(request.payload, example(description, "payload-command")));
    assert_string_equal(request.files[0].name, "conf");
    assert_int_equal(chp_request_decode(example(description, "request-http"), &description->arena,
                                        &request, NULL),
                     0);
    assert_true(chp_bytes_equal(request.payload, example(description, "payload-rest")));
    assert_int_equal(chp_request_decode(example(description, "request-undo"), &description->arena,
                                        &request, NULL),
                     0);
    assert_string_equal(
        chp_operation_summary("shell", request.payload, request.undo, &description->arena),
        "touch /tmp/a (undo: rm /tmp/a)");
}

static void answers_encode_to_the_examples(void **state)
{
    struct description *description = *state;
    struct chp_buf out = {0};
    const char *members[] = {"Nantes", "Rennes"};
    struct chp_reply reply = {
        .resource = "web", .scope = "Nantes & Rennes", .members = members, .member_count = 2};
    assert_int_equal(chp_uuid_parse("0199f3a2-7c00-7000-8000-000000000001", &reply.id), 0);
    chp_reply_encode(&reply, &out);
    is_example(description, "accepted", &out);
    chp_reply_encode(&(struct chp_reply){.code = CHP_EINVAL,
                                         .error = "unknown site Renes, did you mean Rennes?"},
                     &out);
    is_example(description, "refused", &out);
    struct chp_notice notice = {.operation = reply.id,
                                .resource = "web",
                                .answered = 1,
                                .member_count = 2,
                                .elapsed_ms = 45,
                                .ack = {.site = "Rennes",
                                        .run = 1,
                                        .state = CHP_STATE_DONE,
                                        .output = chp_bytes_of("a=1"),
                                        .duration_ms = 4}};
    chp_notice_encode(&notice, &out);
    is_example(description, "result", &out);
    notice.completed = true;
    notice.answered = 2;
    chp_notice_encode(&notice, &out);
    is_example(description, "completed", &out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_decode_and_encode_to_the_same),
        cmocka_unit_test(the_message_decodes_and_encodes_to_the_same),
        cmocka_unit_test(requests_become_the_payloads),
        cmocka_unit_test(answers_encode_to_the_examples),
    };
    return cmocka_run_group_tests_name("schema/wire.md", tests, load, unload);
}
