/* SPDX-License-Identifier: AGPL-3.0-only */
/* Operation: one change asked of a resource, as its origin made it (design sections 2 and 4.2). */
#include "wire/schemas.h"

#include <string.h>

#define AT(member) offsetof(struct chp_operation, member)

/* Values that an operation with every list at its bound has: what the scan allows must be enough.
 */
static_assert(CHP_VECTOR_MAX * 4 + CHP_DISPLACES_MAX * 5 + CHP_SITES_MAX + CHP_FILES_MAX * 9 + 64 <
                  CHP_WIRE_ELEMENTS_MAX,
              "an operation with every list at its bound passes the scan");

static const struct wire__field stamp_fields[] = {
    {.name = "ms",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_stamp, ms),
     .max = WIRE_MS_MAX},
    {.name = "counter",
     .type = WIRE_TYPE_UINT32,
     .offset = offsetof(struct chp_stamp, counter),
     .max = UINT32_MAX},
};
static const struct wire__schema stamp_schema = {
    .fields = stamp_fields, .field_count = WIRE_LENGTH(stamp_fields), .tuple = true};

static const struct wire__field dot_fields[] = {
    {.name = "origin",
     .type = WIRE_TYPE_TEXT,
     .offset = offsetof(struct chp_dot, origin),
     .min = 1,
     .max = CHP_SITE_MAX_BYTES,
     .check = chp_site_name_check},
    {.name = "inc",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_dot, incarnation),
     .max = WIRE_NUMBER_MAX},
    {.name = "n",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_dot, n),
     .max = WIRE_NUMBER_MAX},
};
const struct wire__schema wire__dot_schema = {
    .fields = dot_fields, .field_count = WIRE_LENGTH(dot_fields), .tuple = true};
const struct wire__field wire__dot_element = {.type = WIRE_TYPE_STRUCT,
                                              .schema = &wire__dot_schema};

static const struct wire__field range_element = {.type = WIRE_TYPE_STRUCT,
                                                 .schema = &wire__range_schema};

static const struct wire__field site_element = {
    .type = WIRE_TYPE_TEXT, .min = 1, .max = CHP_SITE_MAX_BYTES, .check = chp_site_name_check};

static int check_file(const void *object, struct chp_error *error)
{
    const struct chp_file *file = object;
    if (!file->is_inline) {
        return 0;
    }
    struct chp_sha256 sha256 = chp_sha256_of(file->content.data, file->content.len);
    if (file->size != file->content.len ||
        memcmp(sha256.bytes, file->sha256.bytes, sizeof sha256.bytes) != 0) {
        return chp_error_set(error, CHP_EMALFORMED, "content is not what size and sha256 say");
    }
    return 0;
}

static const struct wire__field file_fields[] = {
    {.name = "name",
     .type = WIRE_TYPE_TEXT,
     .offset = offsetof(struct chp_file, name),
     .min = 1,
     .max = CHP_FILE_NAME_MAX_BYTES,
     .check = chp_file_name_check},
    {.name = "sha256", .type = WIRE_TYPE_SHA256, .offset = offsetof(struct chp_file, sha256)},
    {.name = "size",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_file, size),
     .max = WIRE_NUMBER_MAX},
    {.name = "content",
     .type = WIRE_TYPE_BYTES,
     .offset = offsetof(struct chp_file, content),
     .optional = true,
     .given = offsetof(struct chp_file, is_inline),
     .max = CHP_FILE_INLINE_MAX_BYTES},
};
static const struct wire__schema file_schema = {
    .fields = file_fields, .field_count = WIRE_LENGTH(file_fields), .check = check_file};
static const struct wire__field file_element = {.type = WIRE_TYPE_STRUCT, .schema = &file_schema};

int wire__files_check(const struct chp_file *files, size_t count, struct chp_error *error)
{
    size_t inline_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        inline_bytes += files[i].is_inline ? files[i].content.len : 0;
        for (size_t j = 0; j < i; j++) {
            if (strcmp(files[i].name, files[j].name) == 0) {
                return chp_error_set(error, CHP_EMALFORMED, "two files are called %s",
                                     files[i].name);
            }
        }
    }
    if (inline_bytes > CHP_FILES_INLINE_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG,
                             "the files have %zu bytes together, at most %d may come with it",
                             inline_bytes, CHP_FILES_INLINE_MAX_BYTES);
    }
    return 0;
}

bool wire__vector_sorted(const struct chp_vector *vector)
{
    for (size_t i = 1; i < vector->count; i++) {
        const struct chp_dot *a = &vector->entries[i - 1];
        const struct chp_dot *b = &vector->entries[i];
        int order = strcmp(a->origin, b->origin);
        if (order > 0 || (order == 0 && a->incarnation >= b->incarnation)) {
            return false;
        }
    }
    return true;
}

static int check_operation(const void *object, struct chp_error *error)
{
    const struct chp_operation *operation = object;
    if (operation->dot.n == 0) {
        return chp_error_set(error, CHP_EMALFORMED, "n must be 1 or more");
    }
    for (size_t i = 1; i < operation->member_count; i++) {
        if (strcmp(operation->members[i - 1], operation->members[i]) >= 0) {
            return chp_error_set(error, CHP_EMALFORMED, "members must be sorted, each once");
        }
    }
    if (!wire__vector_sorted(&operation->context)) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "context must be sorted by origin and incarnation, each pair once");
    }
    return wire__files_check(operation->files, operation->file_count, error);
}

static const struct wire__field fields[] = {
    {.name = "id", .type = WIRE_TYPE_UUID, .offset = AT(id)},
    {.name = "resource",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(resource),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = chp_resource_id_check},
    {.name = "origin",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(dot.origin),
     .min = 1,
     .max = CHP_SITE_MAX_BYTES,
     .check = chp_site_name_check},
    {.name = "inc",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(dot.incarnation),
     .max = WIRE_NUMBER_MAX},
    {.name = "n", .type = WIRE_TYPE_UINT64, .offset = AT(dot.n), .max = WIRE_NUMBER_MAX},
    {.name = "stamp", .type = WIRE_TYPE_STRUCT, .offset = AT(stamp), .schema = &stamp_schema},
    {.name = "type",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(type),
     .min = 1,
     .max = CHP_TYPE_MAX_BYTES,
     .check = chp_type_check},
    {.name = "level", .type = WIRE_TYPE_LEVEL, .offset = AT(level)},
    {.name = "scope",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(scope),
     .min = 1,
     .max = CHP_SCOPE_MAX_BYTES,
     .check = wire__printable_check},
    {.name = "members",
     .type = WIRE_TYPE_LIST,
     .offset = AT(members),
     .count = AT(member_count),
     .element = &site_element,
     .element_bytes = sizeof(const char *),
     .min = 1,
     .max = CHP_SITES_MAX},
    {.name = "creates", .type = WIRE_TYPE_BOOL, .offset = AT(creates), .optional = true},
    {.name = "driver",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(driver),
     .min = 1,
     .max = CHP_TYPE_MAX_BYTES,
     .check = chp_type_check},
    {.name = "payload",
     .type = WIRE_TYPE_BYTES,
     .offset = AT(payload),
     .max = CHP_PAYLOAD_MAX_BYTES},
    {.name = "undo",
     .type = WIRE_TYPE_BYTES,
     .offset = AT(undo),
     .optional = true,
     .max = CHP_UNDO_MAX_BYTES},
    {.name = "files",
     .type = WIRE_TYPE_LIST,
     .offset = AT(files),
     .count = AT(file_count),
     .optional = true,
     .element = &file_element,
     .element_bytes = sizeof(struct chp_file),
     .max = CHP_FILES_MAX},
    {.name = "context",
     .type = WIRE_TYPE_LIST,
     .offset = AT(context.entries),
     .count = AT(context.count),
     .optional = true,
     .element = &wire__dot_element,
     .element_bytes = sizeof(struct chp_dot),
     .max = CHP_VECTOR_MAX},
    {.name = "displaces",
     .type = WIRE_TYPE_LIST,
     .offset = AT(displaces),
     .count = AT(displaces_count),
     .optional = true,
     .element = &range_element,
     .element_bytes = sizeof(struct chp_range),
     .max = CHP_DISPLACES_MAX},
    {.name = "key",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(key),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = wire__printable_check},
    {.name = "principal",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(principal),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = wire__printable_check},
    {.name = "entered", .type = WIRE_TYPE_UINT64, .offset = AT(entered_ms), .max = WIRE_MS_MAX},
    {.name = "deadline",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(deadline_ms),
     .max = CHP_DEADLINE_MAX_MS},
    {.name = "config",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(config),
     .optional = true,
     .min = 1,
     .max = CHP_CONFIG_MAX_BYTES},
    {.name = "stable",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(stable),
     .optional = true,
     .max = WIRE_NUMBER_MAX},
};
const struct wire__schema wire__operation_schema = {
    .fields = fields, .field_count = WIRE_LENGTH(fields), .check = check_operation};
