/* SPDX-License-Identifier: AGPL-3.0-only */
#include "wire/codec.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Where in a message the codec is, for the error sentence: "operation.files[1].name". */
struct place {
    const struct place *up;
    const char *name; /* NULL: element index of up */
    size_t index;
};

struct codec {
    struct chp_arena *arena;
    struct chp_error *error;
    msgpack_packer *packer;
};

enum { PLACE_BYTES = 160 };

static size_t place_print(const struct place *place, char text[PLACE_BYTES])
{
    size_t len = place->up == NULL ? 0 : place_print(place->up, text);
    int added = place->name == NULL ? snprintf(text + len, PLACE_BYTES - len, "[%zu]", place->index)
                                    : snprintf(text + len, PLACE_BYTES - len, "%s%s",
                                               len == 0 ? "" : ".", place->name);
    CHP_ASSERT(added >= 0);
    return len + (size_t)added < PLACE_BYTES ? len + (size_t)added : PLACE_BYTES - 1;
}

static int fail(const struct codec *codec, const struct place *place, int code, const char *format,
                ...) CHP_PRINTF(4, 5);

static int fail(const struct codec *codec, const struct place *place, int code, const char *format,
                ...)
{
    char where[PLACE_BYTES];
    char sentence[CHP_ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    (void)place_print(place, where);
    return chp_error_set(codec->error, code, "%s: %s", where, sentence);
}

static int wrong_kind(const struct codec *codec, const struct place *place, const char *wanted,
                      struct wire__token token)
{
    return fail(codec, place, CHP_EMALFORMED, "must be %s, is %s", wanted,
                wire__kind_name(token.kind));
}

/* Bounds, the same for both directions. */

static int check_length(const struct codec *codec, const struct place *place,
                        const struct wire__field *field, size_t length, const char *unit)
{
    if (length > field->max) {
        return fail(codec, place, CHP_ETOOBIG, "%zu %s, at most %" PRIu64 " are allowed", length,
                    unit, field->max);
    }
    if (length < field->min) {
        return fail(codec, place, CHP_EMALFORMED, "%zu %s, at least %" PRIu64 " needed", length,
                    unit, field->min);
    }
    return 0;
}

static int check_number(const struct codec *codec, const struct place *place,
                        const struct wire__field *field, uint64_t number)
{
    return number >= field->min && number <= field->max
               ? 0
               : fail(codec, place, CHP_EMALFORMED,
                      "%" PRIu64 " is not within %" PRIu64 " to %" PRIu64, number, field->min,
                      field->max);
}

static int check_text(const struct codec *codec, const struct place *place,
                      const struct wire__field *field, const char *text)
{
    struct chp_error reason = {0};
    int code = field->check == NULL ? 0 : field->check(text, &reason);
    return code == 0 ? 0 : fail(codec, place, code, "%s", reason.text);
}

static int check_object(const struct codec *codec, const struct place *place,
                        const struct wire__schema *schema, const void *object)
{
    struct chp_error reason = {0};
    int code = schema->check == NULL ? 0 : schema->check(object, &reason);
    return code == 0 ? 0 : fail(codec, place, code, "%s", reason.text);
}

/* Reading. */

static int read_struct(const struct codec *codec, const struct place *place,
                       const struct wire__schema *schema, struct chp_bytes *at, void *object);
static int read_value(const struct codec *codec, const struct place *place,
                      const struct wire__field *field, struct chp_bytes *at, void *object);

static int read_text(const struct codec *codec, const struct place *place,
                     const struct wire__field *field, struct wire__token token, const char **text)
{
    if (token.kind != WIRE_STR) {
        return wrong_kind(codec, place, "a string", token);
    }
    int code = check_length(codec, place, field, token.bytes.len, "bytes");
    if (code != 0) {
        return code;
    }
    if (!chp_utf8_valid(token.bytes.data, token.bytes.len)) {
        return fail(codec, place, CHP_EMALFORMED, "is not UTF-8 without NUL");
    }
    *text = chp_arena_strndup(codec->arena, token.bytes.data, token.bytes.len);
    return check_text(codec, place, field, *text);
}

static int read_name(const struct codec *codec, const struct place *place,
                     const struct wire__field *field, struct wire__token token, void *value)
{
    const struct wire__field bound = {.max = CHP_TYPE_MAX_BYTES};
    const char *text = NULL;
    int code = read_text(codec, place, &bound, token, &text);
    if (code != 0) {
        return code;
    }
    code = field->type == WIRE_TYPE_KEY          ? chp_key_parse(text, value)
           : field->type == WIRE_TYPE_LEVEL      ? chp_level_parse(text, value)
           : field->type == WIRE_TYPE_RESOLUTION ? chp_resolution_parse(text, value)
                                                 : chp_state_parse(text, value);
    return code == 0 ? 0 : fail(codec, place, CHP_EMALFORMED, "is none of the known names");
}

static int read_bytes(const struct codec *codec, const struct place *place,
                      const struct wire__field *field, struct wire__token token,
                      struct chp_bytes *bytes)
{
    if (token.kind != WIRE_BIN && token.kind != WIRE_STR) {
        return wrong_kind(codec, place, "binary", token);
    }
    *bytes = token.bytes;
    return check_length(codec, place, field, bytes->len, "bytes");
}

static int read_fixed(const struct codec *codec, const struct place *place, size_t size,
                      struct wire__token token, void *value)
{
    if (token.kind != WIRE_BIN || token.bytes.len != size) {
        return fail(codec, place, CHP_EMALFORMED, "must be binary of %zu bytes", size);
    }
    memcpy(value, token.bytes.data, size);
    return 0;
}

static int read_unsigned(const struct codec *codec, const struct place *place,
                         const struct wire__field *field, struct wire__token token,
                         uint64_t *number)
{
    if (token.kind != WIRE_UNSIGNED) {
        return wrong_kind(codec, place, "an integer that is not negative", token);
    }
    *number = token.number;
    return check_number(codec, place, field, *number);
}

static int read_int32(const struct codec *codec, const struct place *place,
                      struct wire__token token, int32_t *value)
{
    int64_t number = (int64_t)token.number;
    if (token.kind != WIRE_UNSIGNED && token.kind != WIRE_NEGATIVE) {
        return wrong_kind(codec, place, "an integer", token);
    }
    if (number < INT32_MIN || number > INT32_MAX || (number < 0) != (token.kind == WIRE_NEGATIVE)) {
        return fail(codec, place, CHP_EMALFORMED, "does not fit in 32 bits");
    }
    *value = (int32_t)number;
    return 0;
}

static int read_list(const struct codec *codec, const struct place *place,
                     const struct wire__field *field, struct chp_bytes *at, void *object)
{
    struct wire__token token = wire__next(at);
    if (token.kind != WIRE_ARRAY) {
        return wrong_kind(codec, place, "an array", token);
    }
    size_t count = (size_t)token.number;
    int code = check_length(codec, place, field, count, "elements");
    if (code != 0) {
        return code;
    }
    /* One more, zeroed: lists of text are NULL-terminated behind their count. */
    char *elements = chp_arena_calloc(codec->arena, count + 1, field->element_bytes);
    for (size_t i = 0; i < count && code == 0; i++) {
        struct place inner = {.up = place, .index = i};
        code = read_value(codec, &inner, field->element, at, elements + i * field->element_bytes);
    }
    memcpy((char *)object + field->offset, &elements, sizeof elements);
    memcpy((char *)object + field->count, &count, sizeof count);
    return code;
}

static int read_scalar(const struct codec *codec, const struct place *place,
                       const struct wire__field *field, struct wire__token token, void *value)
{
    uint64_t number = 0;
    int code = 0;
    switch (field->type) {
    case WIRE_TYPE_TEXT:
        return read_text(codec, place, field, token, value);
    case WIRE_TYPE_BYTES:
        return read_bytes(codec, place, field, token, value);
    case WIRE_TYPE_UINT64:
        return read_unsigned(codec, place, field, token, value);
    case WIRE_TYPE_UINT32:
        CHP_ASSERT(field->max <= UINT32_MAX);
        code = read_unsigned(codec, place, field, token, &number);
        *(uint32_t *)value = (uint32_t)number;
        return code;
    case WIRE_TYPE_INT32:
        return read_int32(codec, place, token, value);
    case WIRE_TYPE_BOOL:
        *(bool *)value = token.kind == WIRE_TRUE;
        return token.kind == WIRE_TRUE || token.kind == WIRE_FALSE
                   ? 0
                   : wrong_kind(codec, place, "a boolean", token);
    case WIRE_TYPE_UUID:
        return read_fixed(codec, place, CHP_UUID_BYTES, token, value);
    case WIRE_TYPE_SHA256:
        return read_fixed(codec, place, CHP_SHA256_BYTES, token, value);
    case WIRE_TYPE_KEY:
    case WIRE_TYPE_LEVEL:
    case WIRE_TYPE_STATE:
    case WIRE_TYPE_RESOLUTION:
        return read_name(codec, place, field, token, value);
    case WIRE_TYPE_STRUCT:
    case WIRE_TYPE_LIST:
        break;
    }
    CHP_ASSERT(!"a scalar");
    return CHP_EINTERNAL;
}

static int read_value(const struct codec *codec, const struct place *place,
                      const struct wire__field *field, struct chp_bytes *at, void *object)
{
    void *value = (char *)object + field->offset;
    if (field->type == WIRE_TYPE_STRUCT) {
        return read_struct(codec, place, field->schema, at, value);
    }
    if (field->type == WIRE_TYPE_LIST) {
        return read_list(codec, place, field, at, object);
    }
    return read_scalar(codec, place, field, wire__next(at), value);
}

static int read_tuple(const struct codec *codec, const struct place *place,
                      const struct wire__schema *schema, struct chp_bytes *at, void *object)
{
    struct wire__token token = wire__next(at);
    if (token.kind != WIRE_ARRAY || token.number != schema->field_count) {
        return fail(codec, place, CHP_EMALFORMED, "must be an array of %zu", schema->field_count);
    }
    int code = 0;
    for (size_t i = 0; i < schema->field_count && code == 0; i++) {
        struct place inner = {.up = place, .name = schema->fields[i].name};
        code = read_value(codec, &inner, &schema->fields[i], at, object);
    }
    return code;
}

/* Index of the field called name, field_count when there is none. Encoders keep the table's order,
 * so the search begins behind the last one found. */
static size_t find_field(const struct wire__schema *schema, struct chp_bytes name, size_t start)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        size_t index = (start + i) % schema->field_count;
        if (chp_bytes_equal(name, chp_bytes_of(schema->fields[index].name))) {
            return index;
        }
    }
    return schema->field_count;
}

static int check_complete(const struct codec *codec, const struct place *place,
                          const struct wire__schema *schema, uint64_t seen)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        if (!schema->fields[i].optional && (seen >> i & 1) == 0) {
            struct place inner = {.up = place, .name = schema->fields[i].name};
            return fail(codec, &inner, CHP_EMALFORMED, "is missing");
        }
    }
    return 0;
}

static int read_map(const struct codec *codec, const struct place *place,
                    const struct wire__schema *schema, struct chp_bytes *at, void *object)
{
    CHP_ASSERT(schema->field_count <= 64);
    struct wire__token map = wire__next(at);
    if (map.kind != WIRE_MAP) {
        return wrong_kind(codec, place, "a map", map);
    }
    uint64_t seen = 0;
    size_t next = 0;
    for (uint64_t i = 0; i < map.number; i++) {
        struct wire__token name = wire__next(at);
        if (name.kind != WIRE_STR) {
            return fail(codec, place, CHP_EMALFORMED, "has a field whose name is %s",
                        wire__kind_name(name.kind));
        }
        size_t index = find_field(schema, name.bytes, next);
        if (index == schema->field_count) { /* of a later version */
            wire__skip(at);
            continue;
        }
        const struct wire__field *field = &schema->fields[index];
        struct place inner = {.up = place, .name = field->name};
        if ((seen >> index & 1) != 0) {
            return fail(codec, &inner, CHP_EMALFORMED, "is given twice");
        }
        seen |= (uint64_t)1 << index;
        next = index + 1;
        if (field->optional && at->data[0] == 0xc0) { /* nil is as good as absent */
            wire__skip(at);
            continue;
        }
        int code = read_value(codec, &inner, field, at, object);
        if (code != 0) {
            return code;
        }
        if (field->given != 0) {
            *(bool *)((char *)object + field->given) = true;
        }
    }
    return check_complete(codec, place, schema, seen);
}

static int read_struct(const struct codec *codec, const struct place *place,
                       const struct wire__schema *schema, struct chp_bytes *at, void *object)
{
    int code = schema->tuple ? read_tuple(codec, place, schema, at, object)
                             : read_map(codec, place, schema, at, object);
    return code != 0 ? code : check_object(codec, place, schema, object);
}

int wire__read(const struct wire__schema *schema, const char *what, struct chp_bytes *at,
               struct chp_arena *arena, void *object, struct chp_error *error)
{
    struct codec codec = {.arena = arena, .error = error};
    struct place place = {.name = what};
    return read_struct(&codec, &place, schema, at, object);
}

int wire__malformed(int code, struct chp_error *error)
{
    if (code != CHP_EINVAL) {
        return code;
    }
    if (error != NULL) {
        error->code = CHP_EMALFORMED;
    }
    return CHP_EMALFORMED;
}

/* Writing. */

static int write_value(const struct codec *codec, const struct place *place,
                       const struct wire__field *field, const void *object);

static int append(void *data, const char *bytes, size_t len)
{
    chp_buf_add(data, bytes, len);
    return 0;
}

msgpack_packer wire__packer(struct chp_buf *out)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, append);
    return packer;
}

void wire__pack_text(msgpack_packer *packer, const char *text)
{
    if (text == NULL) {
        (void)msgpack_pack_nil(packer);
    } else {
        (void)msgpack_pack_str_with_body(packer, text, strlen(text));
    }
}

void wire__pack_bytes(msgpack_packer *packer, struct chp_bytes bytes)
{
    (void)msgpack_pack_bin_with_body(packer, bytes.data, bytes.len);
}

static const char *name_of(enum wire__type type, const void *value)
{
    return type == WIRE_TYPE_KEY          ? chp_key_name(*(const enum chp_key *)value)
           : type == WIRE_TYPE_LEVEL      ? chp_level_name(*(const enum chp_level *)value)
           : type == WIRE_TYPE_RESOLUTION ? chp_resolution_name(*(const enum chp_resolution *)value)
                                          : chp_state_name(*(const enum chp_state *)value);
}

static size_t list_count(const struct wire__field *field, const void *object)
{
    size_t count = 0;
    memcpy(&count, (const char *)object + field->count, sizeof count);
    return count;
}

/* Whether an optional field is to be encoded. */
static bool is_given(const struct wire__field *field, const void *object)
{
    const void *value = (const char *)object + field->offset;
    if (field->given != 0) {
        return *(const bool *)((const char *)object + field->given);
    }
    switch (field->type) {
    case WIRE_TYPE_TEXT:
        return *(const char *const *)value != NULL;
    case WIRE_TYPE_BYTES:
        return ((const struct chp_bytes *)value)->len > 0;
    case WIRE_TYPE_UINT64:
        return *(const uint64_t *)value != 0;
    case WIRE_TYPE_UINT32:
        return *(const uint32_t *)value != 0;
    case WIRE_TYPE_INT32:
        return *(const int32_t *)value != 0;
    case WIRE_TYPE_BOOL:
        return *(const bool *)value;
    case WIRE_TYPE_LIST:
        return list_count(field, object) > 0;
    case WIRE_TYPE_UUID:
    case WIRE_TYPE_SHA256:
    case WIRE_TYPE_KEY:
    case WIRE_TYPE_LEVEL:
    case WIRE_TYPE_STATE:
    case WIRE_TYPE_RESOLUTION:
    case WIRE_TYPE_STRUCT:
        break;
    }
    return true;
}

static int write_text(const struct codec *codec, const struct place *place,
                      const struct wire__field *field, const char *text)
{
    if (text == NULL) {
        return fail(codec, place, CHP_EINVAL, "is missing");
    }
    size_t len = strlen(text);
    int code = check_length(codec, place, field, len, "bytes");
    if (code != 0) {
        return code;
    }
    if (!chp_utf8_valid(text, len)) {
        return fail(codec, place, CHP_EINVAL, "is not UTF-8");
    }
    code = check_text(codec, place, field, text);
    if (code == 0) {
        wire__pack_text(codec->packer, text);
    }
    return code;
}

static int write_number(const struct codec *codec, const struct place *place,
                        const struct wire__field *field, uint64_t number)
{
    int code = check_number(codec, place, field, number);
    if (code == 0) {
        (void)msgpack_pack_uint64(codec->packer, number);
    }
    return code;
}

static int write_list(const struct codec *codec, const struct place *place,
                      const struct wire__field *field, const void *object)
{
    size_t count = list_count(field, object);
    int code = check_length(codec, place, field, count, "elements");
    if (code != 0) {
        return code;
    }
    const char *elements = NULL;
    memcpy(&elements, (const char *)object + field->offset, sizeof elements);
    (void)msgpack_pack_array(codec->packer, count);
    for (size_t i = 0; i < count && code == 0; i++) {
        struct place inner = {.up = place, .index = i};
        code = write_value(codec, &inner, field->element, elements + i * field->element_bytes);
    }
    return code;
}

static int write_struct(const struct codec *codec, const struct place *place,
                        const struct wire__schema *schema, const void *object)
{
    int code = 0;
    size_t count = 0;
    for (size_t i = 0; i < schema->field_count; i++) {
        CHP_ASSERT(!schema->tuple || !schema->fields[i].optional);
        count += !schema->fields[i].optional || is_given(&schema->fields[i], object);
    }
    (void)(schema->tuple ? msgpack_pack_array(codec->packer, count)
                         : msgpack_pack_map(codec->packer, count));
    for (size_t i = 0; i < schema->field_count && code == 0; i++) {
        const struct wire__field *field = &schema->fields[i];
        struct place inner = {.up = place, .name = field->name};
        if (field->optional && !is_given(field, object)) {
            continue;
        }
        if (!schema->tuple) {
            wire__pack_text(codec->packer, field->name);
        }
        code = write_value(codec, &inner, field, object);
    }
    /* Last, so that it may rely on every field. */
    return code != 0 ? code : check_object(codec, place, schema, object);
}

static int write_value(const struct codec *codec, const struct place *place,
                       const struct wire__field *field, const void *object)
{
    const void *value = (const char *)object + field->offset;
    int code = 0;
    switch (field->type) {
    case WIRE_TYPE_TEXT:
        return write_text(codec, place, field, *(const char *const *)value);
    case WIRE_TYPE_BYTES:
        code = check_length(codec, place, field, ((const struct chp_bytes *)value)->len, "bytes");
        wire__pack_bytes(codec->packer, *(const struct chp_bytes *)value);
        return code;
    case WIRE_TYPE_UINT64:
        return write_number(codec, place, field, *(const uint64_t *)value);
    case WIRE_TYPE_UINT32:
        return write_number(codec, place, field, *(const uint32_t *)value);
    case WIRE_TYPE_INT32:
        (void)msgpack_pack_int32(codec->packer, *(const int32_t *)value);
        return 0;
    case WIRE_TYPE_BOOL:
        (void)(*(const bool *)value ? msgpack_pack_true(codec->packer)
                                    : msgpack_pack_false(codec->packer));
        return 0;
    case WIRE_TYPE_UUID:
        wire__pack_bytes(codec->packer, chp_bytes(value, CHP_UUID_BYTES));
        return 0;
    case WIRE_TYPE_SHA256:
        wire__pack_bytes(codec->packer, chp_bytes(value, CHP_SHA256_BYTES));
        return 0;
    case WIRE_TYPE_KEY:
    case WIRE_TYPE_LEVEL:
    case WIRE_TYPE_STATE:
    case WIRE_TYPE_RESOLUTION:
        wire__pack_text(codec->packer, name_of(field->type, value));
        return 0;
    case WIRE_TYPE_STRUCT:
        return write_struct(codec, place, field->schema, value);
    case WIRE_TYPE_LIST:
        return write_list(codec, place, field, object);
    }
    CHP_ASSERT(!"a type");
    return CHP_EINTERNAL;
}

int wire__write(const struct wire__schema *schema, const char *what, const void *object,
                msgpack_packer *packer, struct chp_error *error)
{
    struct codec codec = {.error = error, .packer = packer};
    struct place place = {.name = what};
    return write_struct(&codec, &place, schema, object);
}

int wire__printable_check(const char *text, struct chp_error *error)
{
    for (const char *c = text; *c != 0; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            return chp_error_set(error, CHP_EINVAL,
                                 "has a control character, which is not allowed");
        }
    }
    return 0;
}
