/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Content-addressed files of one site (design section 3): kept on disk under their SHA-256,
 * received from clients in pieces, fetched from other sites in chunks with a bounded number in
 * flight, served to them. Memory does not depend on sizes.
 */
#ifndef CHP_BLOB_BLOB_H
#define CHP_BLOB_BLOB_H

#include "wire/item.h"

#include <event2/event.h>

struct chp_blobs;
struct chp_blob_writer;

struct chp_blobs_config {
    const char *directory;   /* made if absent, mode 0700 */
    uint64_t blob_max_bytes; /* of one */
    uint64_t
        fetch_timeout_ms; /* no chunk for so long: ask again (another site, if several are named) */
    struct event_base *base;
    void *user;
    /* Sends an item to a site: on the control lane (fetch), or on the bulk lane (chunk). Returns 0,
     * or CHP_EBUSY / CHP_EUNAVAILABLE when it can't now; blobs then tries again on
     * chp_blobs_drained or the timeout. */
    int (*send)(void *user, const char *site, enum chp_key key, const struct chp_item *item);
};

struct chp_blobs *chp_blobs_new(const struct chp_blobs_config *config, struct chp_error *error);
void chp_blobs_free(struct chp_blobs *blobs);

int chp_blob_begin(struct chp_blobs *blobs, struct chp_blob_writer **writer,
                   struct chp_error *error) CHP_MUST_CHECK;
int chp_blob_write(struct chp_blob_writer *writer, const void *data, size_t len,
                   struct chp_error *error) CHP_MUST_CHECK;
/* Frees writer. The blob is on disk (fsync) when this returns 0. */
int chp_blob_finish(struct chp_blob_writer *writer, struct chp_sha256 *sha256, uint64_t *size,
                    struct chp_error *error) CHP_MUST_CHECK;
void chp_blob_abort(struct chp_blob_writer *writer);

/* Whether it is here, whole; size may be NULL. */
bool chp_blob_have(const struct chp_blobs *blobs, const struct chp_sha256 *sha256, uint64_t *size);
/* Path of a blob that is here; CHP_ETOOBIG when text is too small. */
int chp_blob_path(const struct chp_blobs *blobs, const struct chp_sha256 *sha256, char *path,
                  size_t path_bytes) CHP_MUST_CHECK;

/* code 0 when it is here, CHP_ENOTFOUND when every named site says that it does not have it. */
typedef void chp_blob_fetched_fn(void *user, const struct chp_sha256 *sha256, int code);
/* Fetches from the sites named, in turn, until it is here or all said missing; goes on for as long
 * as they are away. Several fetches of one blob share the transfer. Called back once, not from
 * inside. */
void chp_blob_fetch(struct chp_blobs *blobs, const struct chp_sha256 *sha256, uint64_t size,
                    const char *const *sites, size_t site_count, chp_blob_fetched_fn *on_fetched,
                    void *user);
void chp_blob_fetch_cancel(struct chp_blobs *blobs, void *user);

/* From the control and bulk queues. */
void chp_blobs_on_fetch(struct chp_blobs *blobs, const char *from, const struct chp_fetch *fetch);
void chp_blobs_on_chunk(struct chp_blobs *blobs, const char *from, const struct chp_chunk *chunk);
/* The broker has room again. */
void chp_blobs_drained(struct chp_blobs *blobs);
/* Bytes fetched from other sites since start. */
uint64_t chp_blobs_fetched_bytes(const struct chp_blobs *blobs);

#endif
