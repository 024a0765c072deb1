/* SPDX-License-Identifier: AGPL-3.0-only */
/* An item: [kind, body, signature]. */
#include "wire/wire.h"

#include "wire/payload.h"
#include "wire/schemas.h"

enum { SIGNATURE_BYTES = 64 };

struct kind {
    const char *name;
    const struct wire__schema *schema;
};

/* NULL name for a number that is no kind of this version. */
static struct kind kind_of(uint64_t number)
{
    static const struct kind kinds[] = {
        [CHP_ITEM_OPERATION] = {"operation", &wire__operation_schema},
        [CHP_ITEM_ACK] = {"ack", &wire__ack_schema},
        [CHP_ITEM_WANT] = {"want", &wire__want_schema},
        [CHP_ITEM_SHOW] = {"show", &wire__show_schema},
        [CHP_ITEM_ANSWER] = {"answer", &wire__answer_schema},
        [CHP_ITEM_FETCH] = {"fetch", &wire__fetch_schema},
        [CHP_ITEM_CHUNK] = {"chunk", &wire__chunk_schema},
        [CHP_ITEM_BEAT] = {"beat", &wire__beat_schema},
        [CHP_ITEM_REPAIR] = {"repair", &wire__repair_schema},
    };
    return number < WIRE_LENGTH(kinds) ? kinds[number] : (struct kind){0};
}

/* All of an item's structs begin where operation does: the union's place. */
static void *body_of(struct chp_item *item)
{
    return &item->operation;
}

static int decode_body(struct chp_bytes at, struct chp_arena *arena, struct chp_item *item,
                       struct chp_error *error)
{
    struct wire__token array = wire__next(&at);
    if (array.kind != WIRE_ARRAY || array.number != 3) {
        return chp_error_set(error, CHP_EMALFORMED, "an item must be [kind, body, signature]");
    }
    struct wire__token number = wire__next(&at);
    if (number.kind != WIRE_UNSIGNED) {
        return chp_error_set(error, CHP_EMALFORMED, "an item's kind must be a number");
    }
    struct kind kind = kind_of(number.number);
    if (kind.name == NULL) {
        return chp_error_set(error, CHP_EVERSION,
                             "an item of kind %llu, which this version does not know",
                             (unsigned long long)number.number);
    }
    item->kind = (enum chp_item_kind)number.number;
    int code = wire__read(kind.schema, kind.name, &at, arena, body_of(item), error);
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

int chp_item_decode(struct chp_bytes bytes, struct chp_arena *arena, struct chp_item *item,
                    struct chp_error *error)
{
    *item = (struct chp_item){0};
    if (bytes.len > CHP_ITEM_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "an item of %zu bytes, at most %d are allowed",
                             bytes.len, CHP_ITEM_MAX_BYTES);
    }
    int code = wire__scan(bytes, error);
    if (code == 0) {
        code = decode_body(bytes, arena, item, error);
    }
    if (code == 0 && item->kind == CHP_ITEM_OPERATION) {
        item->operation.summary =
            chp_payload_summary(item->operation.driver, item->operation.payload, arena);
    }
    return code;
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
    if (code == 0 && out->len - start > CHP_ITEM_MAX_BYTES) {
        code = chp_error_set(error, CHP_ETOOBIG, "an item of %zu bytes, at most %d are allowed",
                             out->len - start, CHP_ITEM_MAX_BYTES);
    }
    if (code != 0) {
        chp_buf_truncate(out, start);
    }
    return code;
}
