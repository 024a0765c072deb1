/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Fetching a blob from other sites.
 *
 * A window of CHP_CHUNKS_IN_FLIGHT chunks moves over the file: its beginning is the first byte that
 * is not here, a bit says for each chunk in it whether it is. Chunks may come in any order, twice,
 * or never. They are written where they belong; the hash runs along at the beginning of the window,
 * so that the end of a big file costs no second reading. Memory is a few hundred bytes per fetch.
 *
 * When nothing new came for the timeout, what is missing in the window is asked of the next site;
 * the pause grows while nothing comes, since the sites may be away for hours. A site that says it
 * lacks the blob is not asked again; when all say so, the fetch ends. Pieces of different sites may
 * be mixed: only the hash of the whole counts, and when it is wrong everything is fetched anew,
 * beginning with another site.
 *
 * At most CHP_FETCHES_MAX fetches are under way: each has a file open and a window on its way.
 * Others rest until it is their turn. One of which nothing comes gives its turn to one that rests,
 * so that files of a site that is away do not keep back those of the others; it begins anew when it
 * is its turn again.
 */
#include "internal.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FETCH_MAGIC = 0xb10bfe7c,
    PAUSE_MAX_MS = 60 * 1000,
    SILENCES_MAX = 3, /* pauses without anything new before a part that is here is given up */
    WINDOW_BYTES = CHP_CHUNKS_IN_FLIGHT * CHP_CHUNK_BYTES,
};

struct source {
    char *site;
    bool missing; /* it said so */
};

struct blob_waiter {
    struct chp_list node; /* of its fetch, then of those to be told */
    struct chp_sha256 sha256;
    chp_blob_fetched_fn *on_fetched;
    void *user;
    int code;
};

struct blob_fetch {
    unsigned magic;
    bool active;
    struct chp_list node; /* in blobs->resting unless active */
    struct chp_blobs *blobs;
    struct chp_sha256 sha256;
    uint64_t size;
    struct chp_list waiters;
    struct source *sources;
    size_t source_count;
    size_t current;                  /* source */
    struct blob_temporary temporary; /* from the first chunk on */
    struct chp_sha256_state *hash;
    uint64_t here;            /* bytes from the beginning that are written and hashed */
    uint64_t asked;           /* bytes from the beginning that have been asked for */
    unsigned window;          /* bit n: the n-th chunk behind here is written */
    struct chp_backoff idle;  /* until what is missing is asked for again */
    struct chp_backoff again; /* until everything is, after all that came was not right */
    struct event *timer;
};

static struct chp_bytes key_of(const struct chp_sha256 *sha256)
{
    return chp_bytes(sha256->bytes, sizeof sha256->bytes);
}

static void arm(const struct blob_fetch *fetch, struct chp_backoff *backoff)
{
    uint64_t ms = chp_backoff_next_ms(backoff);
    struct timeval pause = {.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    CHP_ASSERT(evtimer_add(fetch->timer, &pause) == 0);
}

static void tell_later(struct chp_blobs *blobs, struct blob_waiter *waiter, int code)
{
    waiter->code = code;
    chp_list_remove(&waiter->node);
    chp_list_append(&blobs->told, &waiter->node);
    blob__soon(blobs->tell);
}

static void ask_ahead(struct blob_fetch *fetch);

/* Those that rest become active while there is room. */
static void wake(struct blob_fetch *fetch)
{
    CHP_ASSERT(!fetch->active);
    fetch->active = true;
    fetch->blobs->active++;
    chp_list_remove(&fetch->node);
    chp_backoff_reset(&fetch->idle);
    ask_ahead(fetch);
    arm(fetch, &fetch->idle);
}

static void wake_next(struct chp_blobs *blobs)
{
    struct chp_list *node;
    while (blobs->active < CHP_FETCHES_MAX && (node = chp_list_first(&blobs->resting)) != NULL) {
        wake(CHP_CONTAINER(node, struct blob_fetch, node));
    }
}

static void fetch_free(struct blob_fetch *fetch)
{
    struct chp_blobs *blobs = fetch->blobs;
    blobs->active -= fetch->active ? 1 : 0;
    chp_list_remove(&fetch->node);
    (void)chp_map_remove(fetch->blobs->fetches, key_of(&fetch->sha256));
    blob__temporary_drop(&fetch->temporary);
    chp_sha256_free(fetch->hash);
    for (size_t i = 0; i < fetch->source_count; i++) {
        free(fetch->sources[i].site);
    }
    free(fetch->sources);
    event_free(fetch->timer);
    fetch->magic = 0;
    free(fetch);
    wake_next(blobs);
}

/* Ends the fetch: everybody who waits is told. */
static void fetch_end(struct blob_fetch *fetch, int code)
{
    struct chp_list *node;
    while ((node = chp_list_pop(&fetch->waiters)) != NULL) {
        tell_later(fetch->blobs, CHP_CONTAINER(node, struct blob_waiter, node), code);
    }
    fetch_free(fetch);
}

static struct source *source_of(struct blob_fetch *fetch, const char *site)
{
    for (size_t i = 0; i < fetch->source_count; i++) {
        if (strcmp(fetch->sources[i].site, site) == 0) {
            return &fetch->sources[i];
        }
    }
    return NULL;
}

/* The next site that has not said missing becomes the current one; false when there is none. */
static bool next_source(struct blob_fetch *fetch)
{
    for (size_t i = 1; i <= fetch->source_count; i++) {
        size_t at = (fetch->current + i) % fetch->source_count;
        if (!fetch->sources[at].missing) {
            fetch->current = at;
            return true;
        }
    }
    return false;
}

static int ask(const struct blob_fetch *fetch, uint64_t offset, uint64_t end)
{
    const struct chp_blobs_config *config = &fetch->blobs->config;
    struct chp_item item = {
        .kind = CHP_ITEM_FETCH,
        .fetch = {.sha256 = fetch->sha256, .offset = offset, .bytes = end - offset}};
    return config->send(config->user, fetch->sources[fetch->current].site, CHP_KEY_CONTROL, &item);
}

static uint64_t window_end(const struct blob_fetch *fetch)
{
    uint64_t left = fetch->size - fetch->here;
    return fetch->here + (left < WINDOW_BYTES ? left : WINDOW_BYTES);
}

/* Asks for what the window has newly reached, in halves of a window rather than chunk by chunk.
 * What cannot be sent now is asked when the broker has room or at the timeout. */
static void ask_ahead(struct blob_fetch *fetch)
{
    uint64_t end = window_end(fetch);
    fetch->asked = fetch->asked > fetch->here ? fetch->asked : fetch->here;
    bool worthwhile = end == fetch->size || end - fetch->asked >= WINDOW_BYTES / 2;
    if (fetch->asked < end && worthwhile && ask(fetch, fetch->asked, end) == 0) {
        fetch->asked = end;
    }
}

/* Asks for everything in the window that is not here. */
static void ask_again(struct blob_fetch *fetch)
{
    uint64_t end = window_end(fetch);
    uint64_t offset = fetch->here;
    for (unsigned i = 0; offset < end; i++) {
        uint64_t from = offset;
        while (offset < end && (fetch->window & 1U << i) == 0) {
            offset += CHP_CHUNK_BYTES;
            i++;
        }
        uint64_t until = offset < end ? offset : end;
        if (from < until && ask(fetch, from, until) != 0) {
            return;
        }
        offset += CHP_CHUNK_BYTES;
    }
    fetch->asked = end;
}

static void drop_part(struct blob_fetch *fetch)
{
    blob__temporary_drop(&fetch->temporary);
    chp_sha256_free(fetch->hash);
    fetch->hash = chp_sha256_new();
    fetch->here = 0;
    fetch->asked = 0;
    fetch->window = 0;
}

/* After the pause, with the next site. */
static void start_over(struct blob_fetch *fetch)
{
    drop_part(fetch);
    arm(fetch, &fetch->again);
}

/* Whether others rest that may have more luck. What is here already is not given up at once. */
static bool should_rest(const struct blob_fetch *fetch)
{
    bool part = fetch->here > 0 || fetch->window != 0;
    return !chp_list_empty(&fetch->blobs->resting) &&
           (!part || fetch->idle.attempts > SILENCES_MAX);
}

static void rest(struct blob_fetch *fetch)
{
    drop_part(fetch);
    (void)evtimer_del(fetch->timer);
    fetch->active = false;
    fetch->blobs->active--;
    chp_list_append(&fetch->blobs->resting, &fetch->node);
    wake_next(fetch->blobs);
}

static void fetch_on_timeout(evutil_socket_t fd, short what, void *user)
{
    struct blob_fetch *fetch = user;
    (void)fd;
    (void)what;
    CHP_ASSERT(fetch->magic == FETCH_MAGIC);
    (void)next_source(fetch);
    if (should_rest(fetch)) {
        rest(fetch);
        return;
    }
    ask_again(fetch);
    arm(fetch, &fetch->idle);
}

/* All bytes are here. */
static void complete(struct blob_fetch *fetch)
{
    struct chp_error error = {0};
    struct chp_sha256 found = chp_sha256_finish(fetch->hash);
    fetch->hash = chp_sha256_new();
    if (memcmp(&found, &fetch->sha256, sizeof found) != 0) {
        chp_log_warn("a fetched file has another hash: fetched anew",
                     CHP_S("site", fetch->sources[fetch->current].site),
                     CHP_I("bytes", fetch->size));
        start_over(fetch);
        return;
    }
    if (blob__temporary_keep(fetch->blobs, &fetch->temporary, &fetch->sha256, &error) != 0) {
        chp_log_error("a fetched file could not be kept: fetched anew",
                      CHP_S("reason", error.text));
        start_over(fetch);
        return;
    }
    fetch_end(fetch, 0);
}

static void source_lacks(struct blob_fetch *fetch, struct source *source)
{
    source->missing = true;
    if (fetch->sources[fetch->current].missing) {
        if (!next_source(fetch)) {
            fetch_end(fetch, CHP_ENOTFOUND);
            return;
        }
        ask_again(fetch);
        chp_backoff_reset(&fetch->idle);
        arm(fetch, &fetch->idle);
    }
}

/* The beginning of the window moves behind the chunks that are there. just is the one that has just
 * come. */
static int advance(struct blob_fetch *fetch, const struct chp_chunk *just)
{
    while ((fetch->window & 1U) != 0) {
        struct chp_bytes data = just->data;
        if (just->offset != fetch->here) {
            uint64_t left = fetch->size - fetch->here;
            size_t len = left < CHP_CHUNK_BYTES ? (size_t)left : CHP_CHUNK_BYTES;
            if (pread(fetch->temporary.fd, fetch->blobs->chunk, len, (off_t)fetch->here) !=
                (ssize_t)len) {
                return CHP_EIO;
            }
            data = chp_bytes(fetch->blobs->chunk, len);
        }
        chp_sha256_update(fetch->hash, data.data, data.len);
        fetch->here += data.len;
        fetch->window >>= 1;
    }
    return 0;
}

/* Whether the chunk is one that the window waits for; *bit is its place. */
static bool wanted(const struct blob_fetch *fetch, const struct chp_chunk *chunk, unsigned *bit)
{
    if (chunk->offset < fetch->here || chunk->offset >= window_end(fetch) ||
        chunk->offset % CHP_CHUNK_BYTES != 0) {
        return false;
    }
    uint64_t left = fetch->size - chunk->offset;
    *bit = (unsigned)((chunk->offset - fetch->here) / CHP_CHUNK_BYTES);
    return chunk->data.len == (left < CHP_CHUNK_BYTES ? left : CHP_CHUNK_BYTES) &&
           (fetch->window & 1U << *bit) == 0;
}

static int keep_chunk(struct blob_fetch *fetch, const struct chp_chunk *chunk, unsigned bit,
                      struct chp_error *error)
{
    int code = 0;
    if (fetch->temporary.path == NULL) {
        code = blob__temporary_open(fetch->blobs, &fetch->temporary, error);
    }
    if (code == 0) {
        code = blob__temporary_write(&fetch->temporary, chunk->offset, chunk->data.data,
                                     chunk->data.len, error);
    }
    if (code == 0) {
        fetch->window |= 1U << bit;
        code = advance(fetch, chunk);
    }
    return code;
}

void chp_blobs_on_chunk(struct chp_blobs *blobs, const char *from, const struct chp_chunk *chunk)
{
    struct chp_error error = {0};
    struct blob_fetch *fetch = chp_map_get(blobs->fetches, key_of(&chunk->sha256));
    struct source *source = fetch == NULL ? NULL : source_of(fetch, from);
    unsigned bit = 0;
    if (source == NULL || !fetch->active) {
        return; /* of a fetch that has ended or rests, or from who was not asked */
    }
    if (chunk->missing || chunk->size != fetch->size) {
        chp_log_info("a site does not have a file that was asked of it", CHP_S("site", from),
                     CHP_I("size", chunk->size), CHP_I("expected", fetch->size));
        source_lacks(fetch, source);
        return;
    }
    if (!wanted(fetch, chunk, &bit)) {
        return;
    }
    if (keep_chunk(fetch, chunk, bit, &error) != 0) {
        /* A full disk may have room later; the chunks are asked for again then. */
        chp_log_error("a chunk of a file could not be kept: fetched anew",
                      CHP_S("reason", error.text));
        start_over(fetch);
        return;
    }
    blobs->fetched_bytes += chunk->data.len;
    chp_backoff_reset(&fetch->idle);
    if (fetch->here == fetch->size) {
        complete(fetch);
    } else {
        ask_ahead(fetch);
        arm(fetch, &fetch->idle);
    }
}

static struct blob_fetch *fetch_new(struct chp_blobs *blobs, const struct chp_sha256 *sha256,
                                    uint64_t size)
{
    struct blob_fetch *fetch = chp_alloc(sizeof *fetch);
    fetch->magic = FETCH_MAGIC;
    fetch->blobs = blobs;
    fetch->sha256 = *sha256;
    fetch->size = size;
    fetch->temporary.fd = -1;
    fetch->hash = chp_sha256_new();
    uint64_t timeout_ms = blobs->config.fetch_timeout_ms;
    uint64_t most_ms = timeout_ms > PAUSE_MAX_MS ? timeout_ms : PAUSE_MAX_MS;
    uint64_t seed;
    chp_random(&seed, sizeof seed);
    chp_backoff_init(&fetch->idle, timeout_ms, timeout_ms, most_ms, seed);
    chp_backoff_init(&fetch->again, 0, timeout_ms, most_ms, ~seed);
    fetch->timer = evtimer_new(blobs->config.base, fetch_on_timeout, fetch);
    CHP_ASSERT(fetch->timer != NULL);
    chp_list_init(&fetch->waiters);
    (void)chp_map_put(blobs->fetches, key_of(sha256), fetch);
    return fetch;
}

static void add_sources(struct blob_fetch *fetch, const char *const *sites, size_t count)
{
    fetch->sources =
        chp_realloc(fetch->sources, (fetch->source_count + count) * sizeof *fetch->sources);
    for (size_t i = 0; i < count; i++) {
        struct source *source = source_of(fetch, sites[i]);
        if (source != NULL) {
            source->missing = false; /* somebody knows better by now */
        } else {
            fetch->sources[fetch->source_count++] = (struct source){.site = chp_strdup(sites[i])};
        }
    }
}

/* An empty blob needs no site. */
static int keep_empty(struct chp_blobs *blobs, const struct chp_sha256 *sha256)
{
    struct chp_sha256 empty = chp_sha256_of("", 0);
    struct blob_temporary temporary;
    struct chp_error error = {0};
    if (memcmp(&empty, sha256, sizeof empty) != 0) {
        return CHP_ENOTFOUND;
    }
    int code = blob__temporary_open(blobs, &temporary, &error);
    return code == 0 ? blob__temporary_keep(blobs, &temporary, sha256, &error) : code;
}

void chp_blob_fetch(struct chp_blobs *blobs, const struct chp_sha256 *sha256, uint64_t size,
                    const char *const *sites, size_t site_count, chp_blob_fetched_fn *on_fetched,
                    void *user)
{
    struct blob_waiter *waiter = chp_alloc(sizeof *waiter);
    waiter->sha256 = *sha256;
    waiter->on_fetched = on_fetched;
    waiter->user = user;
    struct blob_fetch *fetch = chp_map_get(blobs->fetches, key_of(sha256));
    if (chp_blob_have(blobs, sha256, NULL)) {
        tell_later(blobs, waiter, 0);
    } else if (size > blobs->config.blob_max_bytes) {
        tell_later(blobs, waiter, CHP_ETOOBIG);
    } else if (size == 0) {
        tell_later(blobs, waiter, keep_empty(blobs, sha256));
    } else if (fetch != NULL) {
        chp_list_append(&fetch->waiters, &waiter->node);
        add_sources(fetch, sites, site_count);
    } else if (site_count == 0) {
        tell_later(blobs, waiter, CHP_ENOTFOUND);
    } else {
        fetch = fetch_new(blobs, sha256, size);
        chp_list_append(&fetch->waiters, &waiter->node);
        add_sources(fetch, sites, site_count);
        chp_list_append(&blobs->resting, &fetch->node);
        wake_next(blobs);
    }
}

static void forget_waiters(struct chp_list *list, const void *user)
{
    CHP_LIST_FOREACH_SAFE(list, node, following)
    {
        struct blob_waiter *waiter = CHP_CONTAINER(node, struct blob_waiter, node);
        if (waiter->user == user) {
            chp_list_remove(&waiter->node);
            free(waiter);
        }
    }
}

void chp_blob_fetch_cancel(struct chp_blobs *blobs, void *user)
{
    const void *cursor = NULL;
    struct chp_bytes key;
    struct blob_fetch *fetch;
    forget_waiters(&blobs->told, user);
    while ((fetch = chp_map_next(blobs->fetches, &cursor, &key)) != NULL) {
        forget_waiters(&fetch->waiters, user);
        if (chp_list_empty(&fetch->waiters)) {
            fetch_free(fetch);
        }
    }
}

void blobs_on_tell(evutil_socket_t fd, short what, void *user)
{
    struct chp_blobs *blobs = user;
    struct chp_list *node;
    (void)fd;
    (void)what;
    while ((node = chp_list_pop(&blobs->told)) != NULL) {
        struct blob_waiter *waiter = CHP_CONTAINER(node, struct blob_waiter, node);
        waiter->on_fetched(waiter->user, &waiter->sha256, waiter->code);
        free(waiter);
    }
}

void blob__fetch_drained(struct chp_blobs *blobs)
{
    const void *cursor = NULL;
    struct chp_bytes key;
    struct blob_fetch *fetch;
    while ((fetch = chp_map_next(blobs->fetches, &cursor, &key)) != NULL) {
        if (fetch->active) {
            ask_ahead(fetch);
        }
    }
}

void blob__fetch_close(struct chp_blobs *blobs)
{
    while (chp_list_pop(&blobs->resting) != NULL) { /* none of them wakes up now */
    }
    const void *cursor = NULL;
    struct chp_bytes key;
    struct blob_fetch *fetch;
    while ((fetch = chp_map_next(blobs->fetches, &cursor, &key)) != NULL) {
        fetch_end(fetch, CHP_ECANCELED);
    }
    struct chp_list *node;
    while ((node = chp_list_pop(&blobs->told)) != NULL) {
        free(CHP_CONTAINER(node, struct blob_waiter, node));
    }
}
