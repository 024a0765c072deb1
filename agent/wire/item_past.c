/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Past: an operation that the receiver lacks, with what the giver knows of its executions.
 * Reincarnate: the receiver gave a dot a second time (design section 4, incarnations).
 *
 * The items in a past are whole, as their origins encoded and signed them, and proved here to be
 * what they must be: whoever takes a past may rely on decoding them.
 */
#include "wire/schemas.h"

#define PAST(member)        offsetof(struct chp_past, member)
#define REINCARNATE(member) offsetof(struct chp_reincarnate, member)

/* An ack in a past: absent, or of that operation. */
static int check_ack(const char *name, struct chp_bytes bytes, const struct chp_operation *about,
                     struct chp_arena *arena, struct chp_error *error)
{
    if (bytes.len == 0) {
        return 0;
    }
    struct chp_item item;
    struct chp_error reason = {0};
    int code = wire__decode_kind(CHP_ITEM_ACK, bytes, arena, &item, &reason);
    if (code != 0) {
        return chp_error_set(error, code, "%s: %s", name, reason.text);
    }
    return chp_uuid_equal(&item.ack.operation, &about->id)
               ? 0
               : chp_error_set(error, CHP_EMALFORMED, "%s: must be of the operation that is given",
                               name);
}

static int check_past(const void *object, struct chp_error *error)
{
    const struct chp_past *past = object;
    struct chp_arena arena = {0};
    struct chp_item item;
    struct chp_error reason = {0};
    int code = wire__decode_kind(CHP_ITEM_OPERATION, past->operation, &arena, &item, &reason);
    if (code != 0) {
        code = chp_error_set(error, code, "operation: %s", reason.text);
    }
    if (code == 0) {
        code = check_ack("theirs", past->theirs, &item.operation, &arena, error);
    }
    if (code == 0) {
        code = check_ack("ours", past->ours, &item.operation, &arena, error);
    }
    chp_arena_deinit(&arena);
    return code;
}

static const struct wire__field past_fields[] = {
    {.name = "operation",
     .type = WIRE_TYPE_BYTES,
     .offset = PAST(operation),
     .min = 1,
     .max = CHP_ITEM_MAX_BYTES},
    {.name = "number",
     .type = WIRE_TYPE_UINT64,
     .offset = PAST(number),
     .optional = true,
     .max = WIRE_NUMBER_MAX},
    {.name = "theirs",
     .type = WIRE_TYPE_BYTES,
     .offset = PAST(theirs),
     .optional = true,
     .max = CHP_ITEM_MAX_BYTES},
    {.name = "ours",
     .type = WIRE_TYPE_BYTES,
     .offset = PAST(ours),
     .optional = true,
     .max = CHP_ITEM_MAX_BYTES},
};
const struct wire__schema wire__past_schema = {
    .fields = past_fields, .field_count = WIRE_LENGTH(past_fields), .check = check_past};

static int check_reincarnate(const void *object, struct chp_error *error)
{
    const struct chp_reincarnate *reincarnate = object;
    return reincarnate->dot.n > 0
               ? 0
               : chp_error_set(error, CHP_EMALFORMED, "n of its dot must be 1 or more");
}

static const struct wire__field reincarnate_fields[] = {
    {.name = "resource",
     .type = WIRE_TYPE_TEXT,
     .offset = REINCARNATE(resource),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = chp_resource_id_check},
    {.name = "dot",
     .type = WIRE_TYPE_STRUCT,
     .offset = REINCARNATE(dot),
     .schema = &wire__dot_schema},
    {.name = "operation", .type = WIRE_TYPE_UUID, .offset = REINCARNATE(operation)},
};
const struct wire__schema wire__reincarnate_schema = {.fields = reincarnate_fields,
                                                      .field_count =
                                                          WIRE_LENGTH(reincarnate_fields),
                                                      .check = check_reincarnate};
