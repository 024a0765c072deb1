/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Chunks for other sites. What a site asked for waits in a short queue of ranges; each turn of the
 * loop a few chunks are read and sent, site after site. When the broker takes no more for a site
 * its queue rests until there is room, or until the site asks again. Requests over the bound are
 * dropped: who asked will ask again.
 */
#include "internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum {
    RANGES_MAX = 64,    /* waiting, per site */
    CHUNKS_PER_TURN = 8 /* a mebibyte: what a turn may cost others */
};

struct range {
    struct chp_list node;
    struct chp_sha256 sha256;
    uint64_t offset;
    uint64_t end;
};

/* Exists while something waits for the site; in the list of those to serve unless the broker takes
 * nothing for it. */
struct blob_peer {
    struct chp_list node;
    char *site;
    struct chp_list ranges;
    size_t range_count;
};

static struct blob_peer *peer_of(struct chp_blobs *blobs, const char *site)
{
    struct blob_peer *peer = chp_map_get(blobs->peers, chp_bytes_of(site));
    if (peer == NULL && chp_map_count(blobs->peers) < CHP_SITES_MAX) {
        peer = chp_alloc(sizeof *peer);
        peer->site = chp_strdup(site);
        chp_list_init(&peer->ranges);
        (void)chp_map_put(blobs->peers, chp_bytes_of(site), peer);
    }
    return peer;
}

static void remove_range(struct blob_peer *peer, struct range *range)
{
    chp_list_remove(&range->node);
    peer->range_count--;
    free(range);
}

static void peer_free(struct chp_blobs *blobs, struct blob_peer *peer)
{
    struct chp_list *node;
    while ((node = chp_list_pop(&peer->ranges)) != NULL) {
        remove_range(peer, CHP_CONTAINER(node, struct range, node));
    }
    chp_list_remove(&peer->node);
    (void)chp_map_remove(blobs->peers, chp_bytes_of(peer->site));
    free(peer->site);
    free(peer);
}

static void serve_soon(struct chp_blobs *blobs, struct blob_peer *peer)
{
    chp_list_remove(&peer->node);
    chp_list_append(&blobs->serving, &peer->node);
    blob__soon(blobs->serve);
}

/* Asked again while it still waits. */
static bool already_waits(struct blob_peer *peer, const struct range *asked)
{
    CHP_LIST_FOREACH_SAFE(&peer->ranges, node, following)
    {
        const struct range *range = CHP_CONTAINER(node, struct range, node);
        if (memcmp(&range->sha256, &asked->sha256, sizeof asked->sha256) == 0 &&
            range->offset <= asked->offset && asked->end <= range->end) {
            return true;
        }
    }
    return false;
}

void chp_blobs_on_fetch(struct chp_blobs *blobs, const char *from, const struct chp_fetch *fetch)
{
    uint64_t most = (uint64_t)CHP_CHUNKS_IN_FLIGHT * CHP_CHUNK_BYTES;
    uint64_t bytes = fetch->bytes < most ? fetch->bytes : most;
    if (bytes == 0 || fetch->offset > blobs->config.blob_max_bytes) {
        return;
    }
    struct range asked = {
        .sha256 = fetch->sha256, .offset = fetch->offset, .end = fetch->offset + bytes};
    struct blob_peer *peer = peer_of(blobs, from);
    if (peer == NULL || peer->range_count >= RANGES_MAX) {
        chp_log_debug("request for a file dropped: too many wait", CHP_S("site", from));
        return;
    }
    if (!already_waits(peer, &asked)) {
        struct range *range = chp_memdup(&asked, sizeof asked);
        chp_list_append(&peer->ranges, &range->node);
        peer->range_count++;
    }
    if (peer->node.next == NULL) {
        serve_soon(blobs, peer); /* also one that rests: it may be worth another try */
    }
}

/* Sends the next chunk of the range. The size of what went out is added to its offset; a range that
 * is over gets offset = end. Returns what send said. */
static int send_chunk(struct chp_blobs *blobs, const struct blob_peer *peer, struct range *range)
{
    struct chp_item item = {.kind = CHP_ITEM_CHUNK,
                            .chunk = {.sha256 = range->sha256, .offset = range->offset}};
    uint64_t left = range->end - range->offset;
    size_t got = 0;
    int code =
        blob__disk_read(blobs, &range->sha256, range->offset,
                        left < CHP_CHUNK_BYTES ? left : CHP_CHUNK_BYTES, &item.chunk.size, &got);
    if (code == CHP_EIO) {
        chp_log_error("a file that another site asks for cannot be read",
                      CHP_S("site", peer->site));
    }
    item.chunk.missing = code != 0;
    item.chunk.data = chp_bytes(blobs->chunk, got);
    if (code == 0 && got == 0) {
        range->offset = range->end; /* behind the blob's end */
        return 0;
    }
    code = blobs->config.send(blobs->config.user, peer->site, CHP_KEY_BULK, &item);
    if (code == 0) {
        range->offset = item.chunk.missing || range->offset + got >= item.chunk.size
                            ? range->end
                            : range->offset + got;
    }
    return code;
}

/* One chunk for one site, which then goes to the end of the list, rests, or is done with. */
static void serve_peer(struct chp_blobs *blobs, struct blob_peer *peer)
{
    struct range *range = CHP_CONTAINER(chp_list_first(&peer->ranges), struct range, node);
    int code = send_chunk(blobs, peer, range);
    chp_list_remove(&peer->node);
    if (code == CHP_EBUSY || code == CHP_EUNAVAILABLE) {
        return;
    }
    if (code != 0) {
        chp_log_warn("a chunk could not be sent", CHP_S("site", peer->site),
                     CHP_S("reason", chp_error_name(code)));
    }
    if (code != 0 || range->offset == range->end) {
        remove_range(peer, range);
    }
    if (chp_list_empty(&peer->ranges)) {
        peer_free(blobs, peer);
    } else {
        serve_soon(blobs, peer);
    }
}

void blobs_on_serve(evutil_socket_t fd, short what, void *user)
{
    struct chp_blobs *blobs = user;
    struct chp_list *node;
    (void)fd;
    (void)what;
    for (int i = 0; i < CHUNKS_PER_TURN && (node = chp_list_first(&blobs->serving)) != NULL; i++) {
        serve_peer(blobs, CHP_CONTAINER(node, struct blob_peer, node));
    }
}

void blob__serve_drained(struct chp_blobs *blobs)
{
    const void *cursor = NULL;
    struct chp_bytes site;
    struct blob_peer *peer;
    while ((peer = chp_map_next(blobs->peers, &cursor, &site)) != NULL) {
        serve_soon(blobs, peer);
    }
}

void blob__serve_close(struct chp_blobs *blobs)
{
    const void *cursor = NULL;
    struct chp_bytes site;
    struct blob_peer *peer;
    while ((peer = chp_map_next(blobs->peers, &cursor, &site)) != NULL) {
        peer_free(blobs, peer);
    }
}
