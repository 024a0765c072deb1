/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The research prototype's forms: a few text fields and files. A part with one of the fields' names
 * is that field; any other part with a file name is a file, under the part's name. A small file
 * stays in memory; when it turns out big, or the form's files are big together, it becomes a blob
 * while it arrives.
 */
#include "gateway/internal.h"

#include "base/mem.h"

#include <string.h>

static const struct {
    const char *name;
    size_t max_bytes;
} fields[] = {
    {"command", CHP_PAYLOAD_MAX_BYTES}, {"sites", CHP_SCOPE_MAX_BYTES}, {"type", CHP_ID_MAX_BYTES},
    {"config", CHP_CONFIG_MAX_BYTES},   {"undo", CHP_UNDO_MAX_BYTES},
};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0], NO_FIELD = FIELD_COUNT };

struct gateway_form {
    struct chp_agent_port port;
    struct chp_arena *arena; /* of the exchange */
    struct gateway_multipart *parser;
    const char *values[FIELD_COUNT];
    struct chp_file files[CHP_FILES_MAX];
    size_t file_count;
    size_t inline_bytes;
    /* The part that is being read. */
    size_t field;                   /* or NO_FIELD: the last of files */
    struct chp_buf content;         /* of a field, or of a file that is small so far */
    struct chp_blob_writer *writer; /* of a file that is not */
};

static int begin_file(struct gateway_form *form, const char *name, struct chp_error *error)
{
    int rc = chp_file_name_check(name, error);
    if (rc != 0) {
        return rc;
    }
    if (form->file_count == CHP_FILES_MAX) {
        return chp_error_set(error, CHP_ETOOBIG, "the form has more than %d files", CHP_FILES_MAX);
    }
    for (size_t i = 0; i < form->file_count; i++) {
        if (strcmp(form->files[i].name, name) == 0) {
            return chp_error_set(error, CHP_EINVAL, "the form has file %s twice", name);
        }
    }
    form->field = NO_FIELD;
    form->files[form->file_count++].name = chp_arena_strdup(form->arena, name);
    return 0;
}

static int form_on_part(void *user, const char *name, const char *filename, struct chp_error *error)
{
    struct gateway_form *form = user;
    chp_buf_clear(&form->content);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            form->field = i;
            return form->values[i] == NULL
                       ? 0
                       : chp_error_set(error, CHP_EINVAL, "the form has field %s twice", name);
        }
    }
    if (filename == NULL) {
        return chp_error_set(
            error, CHP_EINVAL,
            "field \"%.60s\" of the form is not known: allowed are command, sites, type, "
            "config, undo, and files",
            name);
    }
    return begin_file(form, name, error);
}

static int spill(struct gateway_form *form, struct chp_error *error)
{
    const struct chp_agent_vtable *vtable = form->port.vtable;
    int rc = vtable->blob_begin(form->port.agent, &form->writer, error);
    if (rc == 0 && form->content.len > 0) {
        rc = vtable->blob_write(form->writer, form->content.data, form->content.len, error);
    }
    chp_buf_clear(&form->content);
    return rc;
}

static int form_on_data(void *user, const void *data, size_t len, struct chp_error *error)
{
    struct gateway_form *form = user;
    if (form->field != NO_FIELD) {
        size_t max = fields[form->field].max_bytes;
        if (len > max - form->content.len) {
            return chp_error_set(error, CHP_ETOOBIG,
                                 "field %s of the form is over the bound of %zu bytes",
                                 fields[form->field].name, max);
        }
        chp_buf_add(&form->content, data, len);
        return 0;
    }
    size_t max = CHP_FILES_INLINE_MAX_BYTES - form->inline_bytes;
    max = max < CHP_FILE_INLINE_MAX_BYTES ? max : CHP_FILE_INLINE_MAX_BYTES;
    if (form->writer == NULL && len > max - form->content.len) {
        int rc = spill(form, error);
        if (rc != 0) {
            return rc;
        }
    }
    if (form->writer != NULL) {
        return form->port.vtable->blob_write(form->writer, data, len, error);
    }
    chp_buf_add(&form->content, data, len);
    return 0;
}

static int end_field(struct gateway_form *form, struct chp_error *error)
{
    struct chp_buf *content = &form->content;
    if (!chp_utf8_valid(content->data, content->len)) {
        return chp_error_set(error, CHP_EINVAL, "field %s of the form is not UTF-8 text",
                             fields[form->field].name);
    }
    form->values[form->field] = chp_arena_strndup(form->arena, chp_buf_text(content), content->len);
    return 0;
}

static int form_on_end(void *user, struct chp_error *error)
{
    struct gateway_form *form = user;
    if (form->field != NO_FIELD) {
        return end_field(form, error);
    }
    struct chp_file *file = &form->files[form->file_count - 1];
    if (form->writer != NULL) {
        struct chp_blob_writer *writer = form->writer;
        form->writer = NULL;
        return form->port.vtable->blob_finish(writer, &file->sha256, &file->size, error);
    }
    file->is_inline = true;
    file->size = form->content.len;
    file->sha256 = chp_sha256_of(form->content.data, form->content.len);
    file->content = chp_arena_bytes(form->arena, chp_buf_bytes(&form->content));
    form->inline_bytes += form->content.len;
    return 0;
}

int gateway__form_begin(struct gateway_exchange *exchange, const char *content_type,
                        struct chp_error *error)
{
    struct gateway_form *form = chp_alloc(sizeof *form);
    struct gateway_multipart_callbacks callbacks = {form, form_on_part, form_on_data, form_on_end};
    form->port = exchange->door->port;
    form->arena = &exchange->arena;
    exchange->form = form;
    return gateway__multipart_new(content_type, &callbacks, &form->parser, error);
}

int gateway__form_feed(struct gateway_form *form, const void *data, size_t len,
                       struct chp_error *error)
{
    return gateway__multipart_feed(form->parser, data, len, error);
}

int gateway__form_finish(struct gateway_form *form, struct chp_error *error)
{
    return gateway__multipart_finish(form->parser, error);
}

void gateway__form_free(struct gateway_form *form)
{
    if (form != NULL) {
        form->port.vtable->blob_abort(form->writer);
        gateway__multipart_free(form->parser);
        chp_buf_deinit(&form->content);
        free(form);
    }
}

const char *gateway__form_field(const struct gateway_form *form, const char *name)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            return form->values[i];
        }
    }
    return NULL;
}

struct chp_file *gateway__form_files(struct gateway_form *form, size_t *count)
{
    *count = form->file_count;
    return form->file_count > 0 ? form->files : NULL;
}
