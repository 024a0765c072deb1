/* SPDX-License-Identifier: AGPL-3.0-only */
/* A message: [header, items], each item as binary, so that it is stored and passed on without being
 * decoded. */
#include "wire/wire.h"

#include "wire/schemas.h"
#include "wire/version.h"

#include <string.h>

/* What the header's table fills: the marks of a header are an array in it, those of a table a list.
 */
struct header_body {
    struct chp_header header;
    struct chp_mark *marks;
    size_t mark_count;
};

#define AT(member) offsetof(struct header_body, member)

static const struct wire__field mark_fields[] = {
    {.name = "key", .type = WIRE_TYPE_KEY, .offset = offsetof(struct chp_mark, key)},
    {.name = "inc",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_mark, incarnation),
     .max = WIRE_NUMBER_MAX},
    {.name = "n",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_mark, n),
     .max = WIRE_NUMBER_MAX},
};
static const struct wire__schema mark_schema = {
    .fields = mark_fields, .field_count = WIRE_LENGTH(mark_fields), .tuple = true};
static const struct wire__field mark_element = {.type = WIRE_TYPE_STRUCT, .schema = &mark_schema};

static const struct wire__field fields[] = {
    {.name = "v",
     .type = WIRE_TYPE_UINT32,
     .offset = AT(header.version),
     .min = CHP_WIRE_VERSION_MIN,
     .max = CHP_WIRE_VERSION},
    {.name = "from",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(header.from),
     .min = 1,
     .max = CHP_SITE_MAX_BYTES,
     .check = chp_site_name_check},
    {.name = "to",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(header.to),
     .min = 1,
     .max = CHP_SITE_MAX_BYTES,
     .check = chp_site_name_check},
    {.name = "inc",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(header.incarnation),
     .max = WIRE_NUMBER_MAX},
    {.name = "key", .type = WIRE_TYPE_KEY, .offset = AT(header.key)},
    {.name = "first",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(header.first),
     .optional = true,
     .max = WIRE_NUMBER_MAX - CHP_MESSAGE_ITEMS_MAX},
    {.name = "marks",
     .type = WIRE_TYPE_LIST,
     .offset = AT(marks),
     .count = AT(mark_count),
     .optional = true,
     .element = &mark_element,
     .element_bytes = sizeof(struct chp_mark),
     .max = CHP_KEY_COUNT},
};
static const struct wire__schema header_schema = {.fields = fields,
                                                  .field_count = WIRE_LENGTH(fields)};

/* The version comes before every other judgement: a later one may have another header. */
static int check_version(struct chp_bytes at, struct chp_error *error)
{
    struct wire__token map = wire__next(&at);
    if (map.kind != WIRE_MAP) {
        return chp_error_set(error, CHP_EMALFORMED, "a message's header must be a map");
    }
    for (uint64_t i = 0; i < map.number; i++) {
        struct chp_bytes value = at;
        struct wire__token name = wire__next(&value);
        wire__skip(&at);
        if (name.kind == WIRE_STR && chp_bytes_equal(name.bytes, chp_bytes_of("v"))) {
            struct wire__token version = wire__next(&at);
            if (version.kind != WIRE_UNSIGNED) {
                return chp_error_set(error, CHP_EMALFORMED, "header.v: must be a number");
            }
            if (version.number < CHP_WIRE_VERSION_MIN || version.number > CHP_WIRE_VERSION) {
                return chp_error_set(
                    error, CHP_EVERSION, "version %llu, this agent speaks %d to %d",
                    (unsigned long long)version.number, CHP_WIRE_VERSION_MIN, CHP_WIRE_VERSION);
            }
            return 0;
        }
        wire__skip(&at);
    }
    return chp_error_set(error, CHP_EMALFORMED, "header.v: is missing");
}

static int decode_items(struct chp_bytes *at, struct chp_arena *arena, struct chp_message *message,
                        struct chp_error *error)
{
    struct wire__token array = wire__next(at);
    if (array.kind != WIRE_ARRAY) {
        return chp_error_set(error, CHP_EMALFORMED, "a message's items must be an array");
    }
    if (array.number > CHP_MESSAGE_ITEMS_MAX) {
        return chp_error_set(error, CHP_ETOOBIG, "a message of %llu items, at most %d are allowed",
                             (unsigned long long)array.number, CHP_MESSAGE_ITEMS_MAX);
    }
    message->item_count = (size_t)array.number;
    message->items = chp_arena_calloc(arena, message->item_count, sizeof *message->items);
    for (size_t i = 0; i < message->item_count; i++) {
        struct wire__token item = wire__next(at);
        if (item.kind != WIRE_BIN) {
            return chp_error_set(error, CHP_EMALFORMED,
                                 "item %zu of a message must be binary, is %s", i,
                                 wire__kind_name(item.kind));
        }
        message->items[i] = item.bytes;
    }
    return 0;
}

int chp_message_decode(struct chp_bytes body, struct chp_arena *arena, struct chp_message *message,
                       struct chp_error *error)
{
    *message = (struct chp_message){0};
    if (body.len > CHP_MESSAGE_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "a message of %zu bytes, at most %d are allowed",
                             body.len, CHP_MESSAGE_MAX_BYTES);
    }
    int code = wire__scan(body, error);
    if (code != 0) {
        return code;
    }
    struct chp_bytes at = body;
    struct wire__token array = wire__next(&at);
    if (array.kind != WIRE_ARRAY || array.number != 2) {
        return chp_error_set(error, CHP_EMALFORMED, "a message must be [header, items]");
    }
    code = check_version(at, error);
    struct header_body header = {0};
    if (code == 0) {
        code = wire__read(&header_schema, "header", &at, arena, &header, error);
    }
    if (code != 0) {
        return wire__malformed(code, error);
    }
    message->header = header.header;
    message->header.mark_count = header.mark_count;
    if (header.mark_count > 0) {
        memcpy(message->header.marks, header.marks, header.mark_count * sizeof *header.marks);
    }
    return decode_items(&at, arena, message, error);
}

void chp_message_encode(const struct chp_header *header, const struct chp_bytes *items,
                        size_t count, struct chp_buf *out)
{
    CHP_ASSERT(count <= CHP_MESSAGE_ITEMS_MAX);
    CHP_ASSERT(header->mark_count <= CHP_KEY_COUNT);
    struct header_body body = {.header = *header, .mark_count = header->mark_count};
    body.marks = body.header.marks;
    struct chp_error error = {0};
    msgpack_packer packer = wire__packer(out);
    (void)msgpack_pack_array(&packer, 2);
    int code = wire__write(&header_schema, "header", &body, &packer, &error);
    CHP_ASSERT(code == 0); /* made here, of names and numbers that were checked */
    (void)msgpack_pack_array(&packer, count);
    for (size_t i = 0; i < count; i++) {
        wire__pack_bytes(&packer, items[i]);
    }
}
