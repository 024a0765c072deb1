/* SPDX-License-Identifier: AGPL-3.0-only */
/* Messages: header and items. */
#include "samples.h"
#include "wire/version.h"

static const struct chp_header sample_header = {
    .version = CHP_WIRE_VERSION,
    .from = "Nantes",
    .to = "Rennes",
    .incarnation = 3,
    .key = CHP_KEY_OPERATION,
    .first = 17,
    .marks = {{CHP_KEY_OPERATION, 7, 40}, {CHP_KEY_ACK, 7, 0}},
    .mark_count = 2,
};

static void a_message_keeps_its_header_and_its_items_bytes(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    struct chp_message message;
    struct chp_error error = {0};
    const struct chp_bytes items[] = {chp_bytes_of("one"), chp_bytes("\xc1\0", 2),
                                      chp_bytes(NULL, 0)};
    chp_message_encode(&sample_header, items, 3, &out);
    assert_int_equal(chp_message_decode(chp_buf_bytes(&out), &arena, &message, &error), 0);
    assert_int_equal(message.header.version, CHP_WIRE_VERSION);
    assert_string_equal(message.header.from, "Nantes");
    assert_string_equal(message.header.to, "Rennes");
    assert_int_equal(message.header.incarnation, 3);
    assert_int_equal(message.header.key, CHP_KEY_OPERATION);
    assert_int_equal(message.header.first, 17);
    assert_int_equal(message.header.mark_count, 2);
    assert_int_equal(message.header.marks[0].key, CHP_KEY_OPERATION);
    assert_int_equal(message.header.marks[0].n, 40);
    assert_int_equal(message.header.marks[1].key, CHP_KEY_ACK);
    assert_int_equal(message.item_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(chp_bytes_equal(message.items[i], items[i]));
    }
    for (size_t len = 0; len < out.len; len++) {
        assert_int_equal(chp_message_decode(chp_bytes(out.data, len), &arena, &message, &error),
                         CHP_EMALFORMED);
    }
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

static void a_message_may_have_no_items_and_256_at_most(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    struct chp_message message;
    struct chp_bytes items[CHP_MESSAGE_ITEMS_MAX] = {{0}};
    chp_message_encode(&sample_header, NULL, 0, &out);
    assert_int_equal(chp_message_decode(chp_buf_bytes(&out), &arena, &message, NULL), 0);
    assert_int_equal(message.item_count, 0);
    chp_buf_clear(&out);
    chp_message_encode(&sample_header, items, CHP_MESSAGE_ITEMS_MAX, &out);
    assert_int_equal(chp_message_decode(chp_buf_bytes(&out), &arena, &message, NULL), 0);
    assert_int_equal(message.item_count, CHP_MESSAGE_ITEMS_MAX);
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

static void the_largest_item_fits(void **state)
{
    (void)state;
    static uint8_t big[CHP_ITEM_MAX_BYTES];
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    struct chp_message message;
    const struct chp_bytes item = chp_bytes(big, sizeof big);
    chp_message_encode(&sample_header, &item, 1, &out);
    assert_int_equal(chp_message_decode(chp_buf_bytes(&out), &arena, &message, NULL), 0);
    assert_int_equal(message.items[0].len, CHP_ITEM_MAX_BYTES);
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

/* What a header by hand differs in. */
struct other {
    int64_t version;
    const char *from;
    const char *key;
    size_t marks;
    size_t items;
    bool item_is_text;
};

static void refuses(struct other other, int code, const char *text)
{
    struct chp_arena arena = {0};
    struct chp_buf out = {0};
    struct chp_message message;
    struct chp_error error = {0};
    msgpack_packer packer = packer_to(&out);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_map(&packer, 6);
    pack(&packer, "from");
    pack(&packer, other.from);
    pack(&packer, "to");
    pack(&packer, "Rennes");
    pack(&packer, "inc");
    msgpack_pack_int(&packer, 3);
    pack(&packer, "key");
    pack(&packer, other.key);
    pack(&packer, "marks");
    msgpack_pack_array(&packer, other.marks);
    for (size_t i = 0; i < other.marks; i++) {
        msgpack_pack_array(&packer, 3);
        pack(&packer, "ack");
        msgpack_pack_int(&packer, 7);
        msgpack_pack_int(&packer, 1);
    }
    pack(&packer, "v");
    msgpack_pack_int64(&packer, other.version);
    msgpack_pack_array(&packer, other.items);
    for (size_t i = 0; i < other.items; i++) {
        if (other.item_is_text) {
            pack(&packer, "text");
        } else {
            msgpack_pack_bin_with_body(&packer, "x", 1);
        }
    }
    assert_int_equal(chp_message_decode(chp_buf_bytes(&out), &arena, &message, &error), code);
    if (code != 0) {
        assert_int_equal(error.code, code);
        if (strstr(error.text, text) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", error.text, text);
        }
    }
    chp_buf_deinit(&out);
    chp_arena_deinit(&arena);
}

static void the_decoder_names_what_is_wrong(void **state)
{
    (void)state;
    refuses((struct other){1, "Nantes", "ack", 6, 1, false}, 0, "");
    refuses((struct other){2, "Nantes", "ack", 6, 1, false}, 0, "");
    refuses((struct other){3, "Nantes", "ack", 0, 1, false}, CHP_EVERSION,
            "version 3, this agent speaks 1 to 2");
    refuses((struct other){0, "Nantes", "ack", 0, 1, false}, CHP_EVERSION, "version 0");
    /* The version is judged first: a later one may have other rules. */
    refuses((struct other){9, "", "later", 7, 300, true}, CHP_EVERSION, "version 9");
    refuses((struct other){-1, "Nantes", "ack", 0, 1, false}, CHP_EMALFORMED,
            "header.v: must be a number");
    refuses((struct other){1, "a/b", "ack", 0, 1, false}, CHP_EMALFORMED,
            "header.from: site name \"a/b\"");
    refuses((struct other){1, "Nantes", "later", 0, 1, false}, CHP_EMALFORMED,
            "header.key: is none of");
    refuses((struct other){1, "Nantes", "ack", 7, 1, false}, CHP_ETOOBIG,
            "header.marks: 7 elements, at most 6");
    refuses((struct other){1, "Nantes", "ack", 0, 257, false}, CHP_ETOOBIG,
            "257 items, at most 256");
    refuses((struct other){1, "Nantes", "ack", 0, 1, true}, CHP_EMALFORMED,
            "item 0 of a message must be binary");
}

static void what_is_no_message_is_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "c0",
                                      "90",
                                      "91 80",
                                      "92 80 90",
                                      "92 90 90",
                                      "92 81 a1 76 a1 31 90",
                                      "92 81 a1 76 01 90",
                                      "93 81 a1 76 01 90 c0",
                                      "82 01 02 03 04"};
    struct chp_arena arena = {0};
    struct chp_message message;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct chp_error error = {0};
        assert_int_equal(chp_message_decode(unhex(&arena, bad[i]), &arena, &message, &error),
                         CHP_EMALFORMED);
        assert_true(error.text[0] != 0);
    }
    static const uint8_t big[CHP_MESSAGE_MAX_BYTES + 1];
    assert_int_equal(chp_message_decode(chp_bytes(big, sizeof big), &arena, &message, NULL),
                     CHP_ETOOBIG);
    chp_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_keeps_its_header_and_its_items_bytes),
        cmocka_unit_test(a_message_may_have_no_items_and_256_at_most),
        cmocka_unit_test(the_largest_item_fits),
        cmocka_unit_test(the_decoder_names_what_is_wrong),
        cmocka_unit_test(what_is_no_message_is_malformed),
    };
    return cmocka_run_group_tests_name("wire message", tests, NULL, NULL);
}
