/* SPDX-License-Identifier: AGPL-3.0-only */
/* An item: [kind, body, signature]. */
#include "wire/wire.h"

#include "wire/payload.h"
#include "wire/schemas.h"
#include "wire/version.h"

enum { SIGNATURE_BYTES = 64 };

struct kind {
    const char *name;
    const struct wire__schema *schema;
    uint32_t since; /* wire version */
};

/* NULL name for a number that is no kind of this version. */
static struct kind kind_of(uint64_t number)
{
    static const struct kind kinds[] = {
        [CHP_ITEM_OPERATION] = {"operation", &wire__operation_schema, 1},
        [CHP_ITEM_ACK] = {"ack", &wire__ack_schema, 1},
        [CHP_ITEM_WANT] = {"want", &wire__want_schema, 1},
        [CHP_ITEM_SHOW] = {"show", &wire__show_schema, 1},
        [CHP_ITEM_ANSWER] = {"answer", &wire__answer_schema, 1},
        [CHP_ITEM_FETCH] = {"fetch", &wire__fetch_schema, 1},
        [CHP_ITEM_CHUNK] = {"chunk", &wire__chunk_schema, 1},
        [CHP_ITEM_BEAT] = {"beat", &wire__beat_schema, 1},
        [CHP_ITEM_REPAIR] = {"repair", &wire__repair_schema, 1},
        [CHP_ITEM_PAST] = {"past", &wire__past_schema, 2},
        [CHP_ITEM_NONE] = {"none", &wire__none_schema, 2},
        [CHP_ITEM_REPORT] = {"report", &wire__report_schema, 2},
        [CHP_ITEM_REPORTED] = {"reported", &wire__reported_schema, 2},
        [CHP_ITEM_REINCARNATE] = {"reincarnate", &wire__reincarnate_schema, 2},
        [CHP_ITEM_RESOLVE] = {"resolve", &wire__resolve_schema, 2},
        [CHP_ITEM_RESOLVED] = {"resolved", &wire__resolved_schema, 2},
    };
    return number < WIRE_LENGTH(kinds) && kinds[number].since <= CHP_WIRE_VERSION
               ? kinds[number]
               : (struct kind){0};
}

/* All of an item's structs begin where operation does: the union's place. */
static void *body_of(struct chp_item *item)
{
    return &item->operation;
}

static int check_size(uint64_t kind, size_t len, struct chp_error *error)
{
    size_t max = kind == CHP_ITEM_PAST ? CHP_PAST_MAX_BYTES : CHP_ITEM_MAX_BYTES;
    return len <= max ? 0
                      : chp_error_set(error, CHP_ETOOBIG,
                                      "an item of %zu bytes, at most %zu are allowed", len, max);
}

static int decode_body(uint64_t only, struct chp_bytes at, struct chp_arena *arena,
                       struct chp_item *item, struct chp_error *error)
{
    size_t len = at.len;
    struct wire__token array = wire__next(&at);
    if (array.kind != WIRE_ARRAY || array.number != 3) {
        return chp_error_set(error, CHP_EMALFORMED, "an item must be [kind, body, signature]");
    }
    struct wire__token number = wire__next(&at);
    if (number.kind != WIRE_UNSIGNED) {
        return chp_error_set(error, CHP_EMALFORMED, "an item's kind must be a number");
    }
    if (only != 0 && number.number != only) {
        return chp_error_set(error, CHP_EMALFORMED, "must be an item of kind %s",
                             kind_of(only).name);
    }
    struct kind kind = kind_of(number.number);
    if (kind.name == NULL) {
        return chp_error_set(error, CHP_EVERSION,
                             "an item of kind %llu, which this version does not know",
                             (unsigned long long)number.number);
    }
    item->kind = (enum chp_item_kind)number.number;
    int code = check_size(item->kind, len, error);
    if (code == 0) {
        code = wire__read(kind.schema, kind.name, &at, arena, body_of(item), error);
    }
    if (code != 0) {
        return wire__malformed(code, error);
    }
    struct wire__token signature = wire__next(&at);
    if (signature.kind != WIRE_NIL &&
        (signature.kind != WIRE_BIN || signature.bytes.len != SIGNATURE_BYTES)) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "an item's signature must be nil or binary of %d bytes",
                             SIGNATURE_BYTES);
    }
    return 0;
}

/* only: the kind that it must be; 0: any. */
static int decode(uint64_t only, struct chp_bytes bytes, struct chp_arena *arena,
                  struct chp_item *item, struct chp_error *error)
{
    *item = (struct chp_item){0};
    int code = check_size(only == 0 ? CHP_ITEM_PAST : only, bytes.len, error);
    if (code == 0) {
        code = wire__scan(bytes, error);
    }
    if (code == 0) {
        code = decode_body(only, bytes, arena, item, error);
    }
    if (code == 0 && item->kind == CHP_ITEM_OPERATION) {
        item->operation.summary = chp_operation_summary(
            item->operation.driver, item->operation.payload, item->operation.undo, arena);
    }
    return code;
}

int wire__decode_kind(enum chp_item_kind kind, struct chp_bytes bytes, struct chp_arena *arena,
                      struct chp_item *item, struct chp_error *error)
{
    return decode(kind, bytes, arena, item, error);
}

int chp_item_decode(struct chp_bytes bytes, struct chp_arena *arena, struct chp_item *item,
                    struct chp_error *error)
{
    return decode(0, bytes, arena, item, error);
}

int chp_item_encode(const struct chp_item *item, struct chp_buf *out, struct chp_error *error)
{
    struct kind kind = kind_of(item->kind);
    CHP_ASSERT(kind.name != NULL);
    size_t start = out->len;
    msgpack_packer packer = wire__packer(out);
    (void)msgpack_pack_array(&packer, 3);
    (void)msgpack_pack_uint8(&packer, (uint8_t)item->kind);
    int code = wire__write(kind.schema, kind.name, &item->operation, &packer, error);
    (void)msgpack_pack_nil(&packer);
    if (code == 0) {
        code = check_size(item->kind, out->len - start, error);
    }
    if (code != 0) {
        chp_buf_truncate(out, start);
    }
    return code;
}
