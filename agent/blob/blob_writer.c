/* SPDX-License-Identifier: AGPL-3.0-only */
/* A blob that a client sends in pieces: its name is known when the last one is here. */
#include "internal.h"

#include "base/mem.h"

#include <stdlib.h>

struct chp_blob_writer {
    struct chp_blobs *blobs;
    struct blob_temporary temporary;
    struct chp_sha256_state *hash;
    uint64_t size;
};

int chp_blob_begin(struct chp_blobs *blobs, struct chp_blob_writer **writer,
                   struct chp_error *error)
{
    struct blob_temporary temporary;
    int code = blob__temporary_open(blobs, &temporary, error);
    if (code != 0) {
        return code;
    }
    *writer = chp_alloc(sizeof **writer);
    (*writer)->blobs = blobs;
    (*writer)->temporary = temporary;
    (*writer)->hash = chp_sha256_new();
    return 0;
}

int chp_blob_write(struct chp_blob_writer *writer, const void *data, size_t len,
                   struct chp_error *error)
{
    uint64_t max = writer->blobs->config.blob_max_bytes;
    if (len > max || writer->size > max - len) {
        return chp_error_set(error, CHP_ETOOBIG,
                             "a file may have at most %llu bytes (option blob_max_bytes in section "
                             "[files])",
                             (unsigned long long)max);
    }
    int code = blob__temporary_write(&writer->temporary, writer->size, data, len, error);
    if (code == 0) {
        chp_sha256_update(writer->hash, data, len);
        writer->size += len;
    }
    return code;
}

int chp_blob_finish(struct chp_blob_writer *writer, struct chp_sha256 *sha256, uint64_t *size,
                    struct chp_error *error)
{
    *sha256 = chp_sha256_finish(writer->hash);
    *size = writer->size;
    int code = blob__temporary_keep(writer->blobs, &writer->temporary, sha256, error);
    free(writer);
    return code;
}

void chp_blob_abort(struct chp_blob_writer *writer)
{
    if (writer != NULL) {
        blob__temporary_drop(&writer->temporary);
        chp_sha256_free(writer->hash);
        free(writer);
    }
}
