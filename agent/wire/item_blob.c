/* SPDX-License-Identifier: AGPL-3.0-only */
/* Fetch and chunk: files that are too big for an operation, asked for by who lacks them (design
 * section 3). */
#include "wire/schemas.h"

#define FETCH(member) offsetof(struct chp_fetch, member)
#define CHUNK(member) offsetof(struct chp_chunk, member)

static const struct wire__field fetch_fields[] = {
    {.name = "sha256", .type = WIRE_TYPE_SHA256, .offset = FETCH(sha256)},
    {.name = "offset", .type = WIRE_TYPE_UINT64, .offset = FETCH(offset), .max = WIRE_NUMBER_MAX},
    {.name = "bytes",
     .type = WIRE_TYPE_UINT64,
     .offset = FETCH(bytes),
     .min = 1,
     .max = (uint64_t)CHP_CHUNK_BYTES * CHP_CHUNKS_IN_FLIGHT},
};
const struct wire__schema wire__fetch_schema = {.fields = fetch_fields,
                                                .field_count = WIRE_LENGTH(fetch_fields)};

static int check_chunk(const void *object, struct chp_error *error)
{
    const struct chp_chunk *chunk = object;
    if (chunk->missing
            ? chunk->data.len > 0
            : chunk->offset > chunk->size || chunk->data.len > chunk->size - chunk->offset) {
        return chp_error_set(error, CHP_EMALFORMED, "data reaches beyond the end of the file");
    }
    return 0;
}

static const struct wire__field chunk_fields[] = {
    {.name = "sha256", .type = WIRE_TYPE_SHA256, .offset = CHUNK(sha256)},
    {.name = "size", .type = WIRE_TYPE_UINT64, .offset = CHUNK(size), .max = WIRE_NUMBER_MAX},
    {.name = "offset", .type = WIRE_TYPE_UINT64, .offset = CHUNK(offset), .max = WIRE_NUMBER_MAX},
    {.name = "data",
     .type = WIRE_TYPE_BYTES,
     .offset = CHUNK(data),
     .optional = true,
     .max = CHP_CHUNK_BYTES},
    {.name = "missing", .type = WIRE_TYPE_BOOL, .offset = CHUNK(missing), .optional = true},
};
const struct wire__schema wire__chunk_schema = {
    .fields = chunk_fields, .field_count = WIRE_LENGTH(chunk_fields), .check = check_chunk};
