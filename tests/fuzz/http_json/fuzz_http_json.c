/* SPDX-License-Identifier: AGPL-3.0-only */
/* The body of POST /v1/operations and of a show, from bytes to a request. */
#include "gateway/json.h"

#include <stdlib.h>
#include <string.h>

/* Blobs of this agent go nowhere, and every other one that is asked for is there. */
struct chp_blob_writer {
    uint64_t size;
};

static int fuzz_blob_begin(struct chp_agent *agent, struct chp_blob_writer **writer,
                           struct chp_error *error)
{
    (void)agent;
    (void)error;
    *writer = calloc(1, sizeof **writer);
    CHP_ASSERT(*writer != NULL);
    return 0;
}

static int fuzz_blob_write(struct chp_blob_writer *writer, const void *data, size_t len,
                           struct chp_error *error)
{
    (void)data;
    (void)error;
    writer->size += len;
    return 0;
}

static int fuzz_blob_finish(struct chp_blob_writer *writer, struct chp_sha256 *sha256,
                            uint64_t *size, struct chp_error *error)
{
    (void)error;
    *sha256 = (struct chp_sha256){0};
    *size = writer->size;
    free(writer);
    return 0;
}

static void fuzz_blob_abort(struct chp_blob_writer *writer)
{
    free(writer);
}

static bool fuzz_blob_have(struct chp_agent *agent, const struct chp_sha256 *sha256, uint64_t *size)
{
    (void)agent;
    *size = 1;
    return (sha256->bytes[0] & 1) == 0;
}

static void check_request(const struct chp_request *request)
{
    struct chp_error error;
    CHP_ASSERT(chp_resource_id_check(request->resource, &error) == 0);
    CHP_ASSERT(chp_type_check(request->type, &error) == 0);
    CHP_ASSERT(request->payload.len > 0 && request->payload.len <= CHP_PAYLOAD_MAX_BYTES + 64);
    CHP_ASSERT(request->file_count <= CHP_FILES_MAX && request->deadline_ms <= CHP_DEADLINE_MAX_MS);
    uint64_t inline_bytes = 0;
    for (size_t i = 0; i < request->file_count; i++) {
        CHP_ASSERT(chp_file_name_check(request->files[i].name, &error) == 0);
        inline_bytes += request->files[i].content.len;
    }
    CHP_ASSERT(inline_bytes <= CHP_FILES_INLINE_MAX_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct chp_agent_vtable vtable = {.blob_begin = fuzz_blob_begin,
                                                   .blob_write = fuzz_blob_write,
                                                   .blob_finish = fuzz_blob_finish,
                                                   .blob_abort = fuzz_blob_abort,
                                                   .blob_have = fuzz_blob_have};
    struct chp_agent_port port = {NULL, &vtable};
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    json_t *body = gateway__json_parse(data, size, &error);
    CHP_ASSERT(body != NULL || error.text[0] != '\0');
    if (body != NULL) {
        struct chp_request request = {0};
        struct chp_show show = {0};
        int rc = gateway__request_from_json(&port, body, &arena, &request, &error);
        CHP_ASSERT(rc == 0 || error.text[0] != '\0');
        if (rc == 0) {
            check_request(&request);
        }
        (void)gateway__show_from_json(body, &arena, &show, &error);
    }
    json_decref(body);
    chp_arena_deinit(&arena);
    return 0;
}
