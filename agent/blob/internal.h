/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the parts of blob share. */
#ifndef CHP_BLOB_INTERNAL_H
#define CHP_BLOB_INTERNAL_H

#include "blob/blob.h"

#include "base/list.h"
#include "base/map.h"

struct chp_blobs {
    struct chp_blobs_config config; /* directory is owned */
    struct chp_map *fetches;        /* struct blob_fetch by hash */
    struct chp_list resting;        /* struct blob_fetch that waits for its turn */
    size_t active;                  /* fetches that do not, at most CHP_FETCHES_MAX */
    struct chp_list told;           /* struct blob_waiter whose fetch has ended */
    struct event *tell;
    uint64_t fetched_bytes;
    struct chp_map *peers;   /* struct blob_peer by site, those that wait for chunks */
    struct chp_list serving; /* struct blob_peer, in turn */
    struct event *serve;
    uint8_t chunk[CHP_CHUNK_BYTES]; /* the one buffer for reading */
};

/* A file that becomes a blob when it is complete. */
struct blob_temporary {
    int fd; /* -1: none */
    char *path;
    uint64_t written; /* since the kernel was last told to write */
};

int blob__temporary_open(const struct chp_blobs *blobs, struct blob_temporary *temporary,
                         struct chp_error *error) CHP_MUST_CHECK;
int blob__temporary_write(struct blob_temporary *temporary, uint64_t offset, const void *data,
                          size_t len, struct chp_error *error) CHP_MUST_CHECK;
/* Puts it in its place, on disk; closes it in any case. */
int blob__temporary_keep(const struct chp_blobs *blobs, struct blob_temporary *temporary,
                         const struct chp_sha256 *sha256, struct chp_error *error) CHP_MUST_CHECK;
/* Closes and removes it; safe when there is none. */
void blob__temporary_drop(struct blob_temporary *temporary);

/* Makes the directories and removes what an earlier process did not complete. */
int blob__disk_open(const struct chp_blobs *blobs, struct chp_error *error) CHP_MUST_CHECK;
/* Reads up to len bytes at offset into blobs->chunk. CHP_ENOTFOUND when the blob is not here,
 * CHP_EIO. */
int blob__disk_read(struct chp_blobs *blobs, const struct chp_sha256 *sha256, uint64_t offset,
                    size_t len, uint64_t *size, size_t *got) CHP_MUST_CHECK;

/* Ends all fetches and all serving, without telling anybody. */
void blob__fetch_close(struct chp_blobs *blobs);
void blob__serve_close(struct chp_blobs *blobs);
/* The broker has room. */
void blob__fetch_drained(struct chp_blobs *blobs);
void blob__serve_drained(struct chp_blobs *blobs);

void blobs_on_tell(evutil_socket_t fd, short what, void *user);
void blobs_on_serve(evutil_socket_t fd, short what, void *user);

/* Turns on in the next turn of the loop: event_active() would run again in this one, before any
 * input. */
void blob__soon(struct event *event);

#endif
