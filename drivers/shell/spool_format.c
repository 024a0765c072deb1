/* SPDX-License-Identifier: AGPL-3.0-only */
/* Jobs and statuses as bytes. Decoding is bounded before it allocates: every length is compared
 * with what is left, lists are counted first. */
#include "spool.h"

#include <limits.h>
#include <string.h>

enum job_tag {
    JOB_DIRECTORY = 1,
    JOB_DURABLE,
    JOB_PARENT,
    JOB_DEADLINE_MS,
    JOB_MEMORY_MAX_BYTES,
    JOB_PROCESSES_MAX,
    JOB_USER,
    JOB_GROUP_OF_USER,
    JOB_GROUP,
    JOB_ARGUMENT,
    JOB_VARIABLE,
    JOB_FILE_NAME, /* followed by one of the next two */
    JOB_FILE_PATH,
    JOB_FILE_CONTENT,
    JOB_AGENT,
    JOB_TAG_END,
};

enum status_tag {
    STATUS_DONE = 1,
    STATUS_EXIT_CODE,
    STATUS_REASON,
    STATUS_STARTED_MS,
    STATUS_DURATION_MS,
    STATUS_OUTPUT_CUT,
    STATUS_OUTPUT, /* last: it says that the status is whole */
    STATUS_TAG_END,
};

enum { FIELD_HEAD_BYTES = 5, NUMBER_BYTES = 8 };

static const char job_magic[] = "cheops-job 1\n";
static const char status_magic[] = "cheops-status 1\n";

static void add_little_endian(struct chp_buf *out, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        chp_buf_add_byte(out, (uint8_t)(number >> (8 * i)));
    }
}

static void add_field(struct chp_buf *out, uint8_t tag, struct chp_bytes value)
{
    CHP_ASSERT(value.len <= UINT32_MAX);
    chp_buf_add_byte(out, tag);
    add_little_endian(out, value.len, 4);
    chp_buf_add(out, value.data, value.len);
}

static void add_text(struct chp_buf *out, uint8_t tag, const char *text)
{
    add_field(out, tag, chp_bytes_of(text));
}

static void add_number(struct chp_buf *out, uint8_t tag, uint64_t number)
{
    chp_buf_add_byte(out, tag);
    add_little_endian(out, NUMBER_BYTES, 4);
    add_little_endian(out, number, NUMBER_BYTES);
}

static uint64_t little_endian(const uint8_t *data, size_t bytes)
{
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; i++) {
        number |= (uint64_t)data[i] << (8 * i);
    }
    return number;
}

struct field {
    uint8_t tag;
    struct chp_bytes value;
};

/* The fields still to read. */
struct reader {
    struct chp_bytes left;
    struct chp_arena *arena;
    struct chp_error *error;
};

static int read_magic(struct reader *reader, const char *magic)
{
    size_t len = strlen(magic);
    if (reader->left.len < len || memcmp(reader->left.data, magic, len) != 0) {
        return chp_error_set(reader->error, CHP_EMALFORMED, "does not begin with '%.*s'",
                             (int)len - 1, magic);
    }
    reader->left = chp_bytes(reader->left.data + len, reader->left.len - len);
    return 0;
}

static int read_field(struct reader *reader, struct field *field)
{
    if (reader->left.len < FIELD_HEAD_BYTES) {
        return chp_error_set(reader->error, CHP_EMALFORMED, "ends within a field");
    }
    const uint8_t *data = reader->left.data;
    size_t rest = reader->left.len - FIELD_HEAD_BYTES;
    uint64_t len = little_endian(data + 1, 4);
    if (len > rest) {
        return chp_error_set(reader->error, CHP_EMALFORMED, "ends within field %u", data[0]);
    }
    field->tag = data[0];
    field->value = chp_bytes(data + FIELD_HEAD_BYTES, len);
    reader->left = chp_bytes(data + FIELD_HEAD_BYTES + len, rest - len);
    return 0;
}

static int field_text(struct reader *reader, const struct field *field, const char **text)
{
    if (field->value.len > 0 && memchr(field->value.data, 0, field->value.len) != NULL) {
        return chp_error_set(reader->error, CHP_EMALFORMED, "NUL in field %u", field->tag);
    }
    *text = chp_arena_strndup(reader->arena, field->value.data, field->value.len);
    return 0;
}

static int field_number(struct reader *reader, const struct field *field, uint64_t max,
                        uint64_t *number)
{
    if (field->value.len != NUMBER_BYTES) {
        return chp_error_set(reader->error, CHP_EMALFORMED, "field %u is not a number", field->tag);
    }
    *number = little_endian(field->value.data, NUMBER_BYTES);
    if (*number > max) {
        return chp_error_set(reader->error, CHP_EMALFORMED, "number in field %u is too big",
                             field->tag);
    }
    return 0;
}

void chp_spool_job_encode(const struct chp_spool_job *job, struct chp_buf *out)
{
    CHP_ASSERT(job->argc > 0);
    chp_buf_add(out, job_magic, sizeof job_magic - 1);
    add_text(out, JOB_DIRECTORY, job->directory);
    add_number(out, JOB_DURABLE, job->durable);
    add_number(out, JOB_PARENT, (uint64_t)job->parent);
    add_number(out, JOB_AGENT, (uint64_t)job->agent);
    add_number(out, JOB_DEADLINE_MS, job->deadline_ms);
    add_number(out, JOB_MEMORY_MAX_BYTES, job->memory_max_bytes);
    add_number(out, JOB_PROCESSES_MAX, job->processes_max);
    if (job->switch_user) {
        add_number(out, JOB_USER, job->uid);
        add_number(out, JOB_GROUP_OF_USER, job->gid);
    }
    for (size_t i = 0; i < job->group_count; i++) {
        add_number(out, JOB_GROUP, job->groups[i]);
    }
    for (size_t i = 0; i < job->argc; i++) {
        add_text(out, JOB_ARGUMENT, job->argv[i]);
    }
    for (size_t i = 0; i < job->environment_count; i++) {
        add_text(out, JOB_VARIABLE, job->environment[i]);
    }
    for (size_t i = 0; i < job->file_count; i++) {
        const struct chp_spool_file *file = &job->files[i];
        add_text(out, JOB_FILE_NAME, file->name);
        if (file->path != NULL) {
            add_text(out, JOB_FILE_PATH, file->path);
        } else {
            add_field(out, JOB_FILE_CONTENT, file->content);
        }
    }
}

/* Counts the fields, so that lists are allocated once; a form that is wrong is found here. */
static int count_fields(struct reader reader, size_t counts[JOB_TAG_END])
{
    while (reader.left.len > 0) {
        struct field field = {0};
        int code = read_field(&reader, &field);
        if (code != 0) {
            return code;
        }
        if (field.tag == 0 || field.tag >= JOB_TAG_END) {
            return chp_error_set(reader.error, CHP_EMALFORMED, "unknown field %u", field.tag);
        }
        if (++counts[field.tag] > CHP_SPOOL_LIST_MAX) {
            return chp_error_set(reader.error, CHP_ETOOBIG, "more than %d fields %u",
                                 CHP_SPOOL_LIST_MAX, field.tag);
        }
    }
    if (counts[JOB_DIRECTORY] != 1 || counts[JOB_ARGUMENT] == 0) {
        return chp_error_set(reader.error, CHP_EMALFORMED, "no directory or no command");
    }
    return 0;
}

/* A name that stays inside the directory it is created in. */
static bool plain_name(const char *name)
{
    return name[0] != 0 && name[0] != '.' && strchr(name, '/') == NULL &&
           strlen(name) <= CHP_FILE_NAME_MAX_BYTES;
}

static int decode_file(struct reader *reader, const struct field *name_field,
                       struct chp_spool_file *file)
{
    struct field field = {0};
    int code = field_text(reader, name_field, &file->name);
    if (code == 0 && !plain_name(file->name)) {
        code =
            chp_error_set(reader->error, CHP_EMALFORMED, "'%.50s' is not a file name", file->name);
    }
    if (code == 0) {
        code = read_field(reader, &field);
    }
    if (code != 0) {
        return code;
    }
    if (field.tag == JOB_FILE_PATH) {
        return field_text(reader, &field, &file->path);
    }
    if (field.tag != JOB_FILE_CONTENT) {
        return chp_error_set(reader->error, CHP_EMALFORMED, "file without content");
    }
    file->content = field.value;
    return 0;
}

static int decode_job_field(struct reader *reader, const struct field *field,
                            struct chp_spool_job *job)
{
    uint64_t number = 0;
    int code = 0;
    switch ((enum job_tag)field->tag) {
    case JOB_DIRECTORY:
        return field_text(reader, field, &job->directory);
    case JOB_DURABLE:
        code = field_number(reader, field, 1, &number);
        job->durable = number != 0;
        return code;
    case JOB_PARENT:
        code = field_number(reader, field, INT_MAX, &number);
        job->parent = (pid_t)number;
        return code;
    case JOB_AGENT:
        code = field_number(reader, field, INT_MAX, &number);
        job->agent = (pid_t)number;
        return code;
    case JOB_DEADLINE_MS:
        return field_number(reader, field, CHP_DEADLINE_MAX_MS, &job->deadline_ms);
    case JOB_MEMORY_MAX_BYTES:
        return field_number(reader, field, UINT64_MAX, &job->memory_max_bytes);
    case JOB_PROCESSES_MAX:
        return field_number(reader, field, UINT64_MAX, &job->processes_max);
    case JOB_USER:
        code = field_number(reader, field, UINT32_MAX - 1, &number);
        job->uid = (uid_t)number;
        job->switch_user = true;
        return code;
    case JOB_GROUP_OF_USER:
        code = field_number(reader, field, UINT32_MAX - 1, &number);
        job->gid = (gid_t)number;
        return code;
    case JOB_GROUP:
        code = field_number(reader, field, UINT32_MAX - 1, &number);
        job->groups[job->group_count++] = (gid_t)number;
        return code;
    case JOB_ARGUMENT:
        return field_text(reader, field, &job->argv[job->argc++]);
    case JOB_VARIABLE:
        return field_text(reader, field, &job->environment[job->environment_count++]);
    case JOB_FILE_NAME:
        return decode_file(reader, field, &job->files[job->file_count++]);
    case JOB_FILE_PATH:
    case JOB_FILE_CONTENT:
    case JOB_TAG_END:
        break;
    }
    return chp_error_set(reader->error, CHP_EMALFORMED, "field %u is out of place", field->tag);
}

int chp_spool_job_decode(struct chp_bytes bytes, struct chp_arena *arena, struct chp_spool_job *job,
                         struct chp_error *error)
{
    struct reader reader = {.left = bytes, .arena = arena, .error = error};
    size_t counts[JOB_TAG_END] = {0};
    if (bytes.len > CHP_SPOOL_JOB_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "a job has at most %d bytes",
                             CHP_SPOOL_JOB_MAX_BYTES);
    }
    int code = read_magic(&reader, job_magic);
    if (code == 0) {
        code = count_fields(reader, counts);
    }
    if (code != 0) {
        return code;
    }
    *job = (struct chp_spool_job){
        .groups = chp_arena_calloc(arena, counts[JOB_GROUP] + 1, sizeof *job->groups),
        .argv = chp_arena_calloc(arena, counts[JOB_ARGUMENT] + 1, sizeof *job->argv),
        .environment = chp_arena_calloc(arena, counts[JOB_VARIABLE] + 1, sizeof *job->environment),
        .files = chp_arena_calloc(arena, counts[JOB_FILE_NAME] + 1, sizeof *job->files),
    };
    while (code == 0 && reader.left.len > 0) {
        struct field field = {0};
        code = read_field(&reader, &field);
        if (code == 0) {
            code = decode_job_field(&reader, &field, job);
        }
    }
    if (code == 0 && job->switch_user != (counts[JOB_GROUP_OF_USER] > 0)) {
        code = chp_error_set(error, CHP_EMALFORMED, "user and group come together");
    }
    return code;
}

void chp_spool_status_encode(const struct chp_spool_status *status, struct chp_buf *out)
{
    CHP_ASSERT(status->done == (status->reason == NULL));
    CHP_ASSERT(status->output.len <= CHP_OUTPUT_MAX_BYTES);
    chp_buf_add(out, status_magic, sizeof status_magic - 1);
    add_number(out, STATUS_DONE, status->done);
    add_number(out, STATUS_EXIT_CODE, (uint32_t)status->exit_code);
    if (status->reason != NULL) {
        add_text(out, STATUS_REASON, status->reason);
    }
    add_number(out, STATUS_STARTED_MS, status->started_ms);
    add_number(out, STATUS_DURATION_MS, status->duration_ms);
    add_number(out, STATUS_OUTPUT_CUT, status->output_cut);
    add_field(out, STATUS_OUTPUT, status->output);
}

static int decode_status_field(struct reader *reader, const struct field *field,
                               struct chp_spool_status *status)
{
    uint64_t number = 0;
    int code = 0;
    switch ((enum status_tag)field->tag) {
    case STATUS_DONE:
        code = field_number(reader, field, 1, &number);
        status->done = number != 0;
        return code;
    case STATUS_EXIT_CODE:
        code = field_number(reader, field, UINT32_MAX, &number);
        status->exit_code = (int32_t)(uint32_t)number;
        return code;
    case STATUS_REASON:
        if (!chp_utf8_valid(field->value.data, field->value.len) ||
            field->value.len > CHP_REASON_MAX_BYTES) {
            return chp_error_set(reader->error, CHP_EMALFORMED, "the reason is not a sentence");
        }
        return field_text(reader, field, &status->reason);
    case STATUS_STARTED_MS:
        return field_number(reader, field, INT64_MAX, &status->started_ms);
    case STATUS_DURATION_MS:
        return field_number(reader, field, INT64_MAX, &status->duration_ms);
    case STATUS_OUTPUT_CUT:
        code = field_number(reader, field, 1, &number);
        status->output_cut = number != 0;
        return code;
    case STATUS_OUTPUT:
        if (field->value.len > CHP_OUTPUT_MAX_BYTES || reader->left.len > 0) {
            return chp_error_set(reader->error, CHP_EMALFORMED, "the output is too long");
        }
        status->output = chp_arena_bytes(reader->arena, field->value);
        return 0;
    case STATUS_TAG_END:
        break;
    }
    return chp_error_set(reader->error, CHP_EMALFORMED, "unknown field %u", field->tag);
}

int chp_spool_status_decode(struct chp_bytes bytes, struct chp_arena *arena,
                            struct chp_spool_status *status, struct chp_error *error)
{
    struct reader reader = {.left = bytes, .arena = arena, .error = error};
    struct field field = {0};
    *status = (struct chp_spool_status){0};
    if (bytes.len > CHP_SPOOL_STATUS_MAX_BYTES) {
        return chp_error_set(error, CHP_ETOOBIG, "a status has at most %d bytes",
                             CHP_SPOOL_STATUS_MAX_BYTES);
    }
    int code = read_magic(&reader, status_magic);
    while (code == 0 && reader.left.len > 0) {
        code = read_field(&reader, &field);
        if (code == 0) {
            code = decode_status_field(&reader, &field, status);
        }
    }
    if (code == 0 && field.tag != STATUS_OUTPUT) {
        code = chp_error_set(error, CHP_EMALFORMED, "ends before the output");
    }
    if (code == 0 && status->done != (status->reason == NULL)) {
        code = chp_error_set(error, CHP_EMALFORMED, "done and reason contradict each other");
    }
    return code;
}
