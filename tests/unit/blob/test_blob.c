/* SPDX-License-Identifier: AGPL-3.0-only */
/* Sites with a blob store each, connected by queues that lose, duplicate and reorder what the wire
 * encoded. */
#include "blob/blob.h"
#include "wire/wire.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
#else
enum { SANITIZED = 0 };
#endif

enum { SITES = 3, MIB = 1024 * 1024, WAIT_MS = 100 * 1000, IMPATIENT_MS = 150, PATIENT_MS = 10000 };

static const char *const names[SITES] = {"Nantes", "Rennes", "Paris"};

struct packet {
    struct chp_list node;
    int to;
    int from;
    struct chp_buf bytes;
};

struct world;

struct site {
    struct world *world;
    int index;
    char directory[64];
    struct chp_blobs *blobs;
    bool away; /* hears nothing */
    int busy;  /* what send says, 0: takes everything */
    unsigned fetches_seen;
    uint64_t chunk_bytes_sent;
    bool corrupts; /* every chunk it sends */
};

struct world {
    struct event_base *base;
    struct event *carry;
    uint64_t timeout_ms;
    struct chp_list queue;
    size_t queued_bytes;
    size_t queued_bytes_max;
    unsigned queue_limit; /* packets; more is CHP_EBUSY; 0: none */
    unsigned queued;
    uint64_t random;
    unsigned lose_percent;
    unsigned duplicate_percent;
    unsigned reorder_percent;
    struct site sites[SITES];
};

static uint64_t next_random(struct world *world)
{
    world->random = world->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return world->random >> 33;
}

static bool happens(struct world *world, unsigned percent)
{
    return next_random(world) % 100 < percent;
}

static void enqueue(struct world *world, int from, int to, struct chp_bytes bytes)
{
    struct packet *packet = chp_alloc(sizeof *packet);
    packet->from = from;
    packet->to = to;
    chp_buf_add(&packet->bytes, bytes.data, bytes.len);
    if (happens(world, world->reorder_percent)) {
        chp_list_prepend(&world->queue, &packet->node);
    } else {
        chp_list_append(&world->queue, &packet->node);
    }
    world->queued++;
    world->queued_bytes += bytes.len;
    if (world->queued_bytes > world->queued_bytes_max) {
        world->queued_bytes_max = world->queued_bytes;
    }
    struct timeval now = {0};
    (void)evtimer_add(world->carry, &now);
}

static int send_item(void *user, const char *name, enum chp_key key, const struct chp_item *item)
{
    struct site *site = user;
    struct world *world = site->world;
    struct chp_buf bytes = {0};
    struct chp_error error = {0};
    int to = 0;
    assert_int_equal(key, item->kind == CHP_ITEM_FETCH ? CHP_KEY_CONTROL : CHP_KEY_BULK);
    if (site->busy != 0) {
        return site->busy;
    }
    if (world->queue_limit > 0 && world->queued >= world->queue_limit) {
        return CHP_EBUSY;
    }
    while (strcmp(names[to], name) != 0) {
        to++;
        assert_true(to < SITES);
    }
    assert_int_equal(chp_item_encode(item, &bytes, &error), 0);
    if (item->kind == CHP_ITEM_CHUNK) {
        site->chunk_bytes_sent += item->chunk.data.len;
        if (site->corrupts && item->chunk.data.len > 0) {
            bytes.data[bytes.len / 2] ^= 1;
        }
    }
    if (!happens(world, world->lose_percent)) {
        enqueue(world, site->index, to, chp_buf_bytes(&bytes));
        if (happens(world, world->duplicate_percent)) {
            enqueue(world, site->index, to, chp_buf_bytes(&bytes));
        }
    }
    chp_buf_deinit(&bytes);
    return 0;
}

static void deliver(struct world *world, const struct packet *packet)
{
    struct site *site = &world->sites[packet->to];
    struct chp_arena arena = {0};
    struct chp_item item;
    struct chp_error error = {0};
    if (!site->away && site->blobs != NULL &&
        chp_item_decode(chp_buf_bytes(&packet->bytes), &arena, &item, &error) == 0) {
        if (item.kind == CHP_ITEM_FETCH) {
            site->fetches_seen++;
            chp_blobs_on_fetch(site->blobs, names[packet->from], &item.fetch);
        } else {
            chp_blobs_on_chunk(site->blobs, names[packet->from], &item.chunk);
        }
    }
    chp_arena_deinit(&arena);
}

static void world_on_carry(evutil_socket_t fd, short what, void *user)
{
    struct world *world = user;
    (void)fd;
    (void)what;
    struct chp_list *node = chp_list_first(&world->queue);
    if (node == NULL) {
        return;
    }
    struct packet *packet = CHP_CONTAINER(node, struct packet, node);
    chp_list_remove(&packet->node);
    bool was_full = world->queue_limit > 0 && world->queued >= world->queue_limit;
    world->queued--;
    world->queued_bytes -= packet->bytes.len;
    deliver(world, packet);
    chp_buf_deinit(&packet->bytes);
    free(packet);
    for (int i = 0; was_full && i < SITES; i++) {
        chp_blobs_drained(world->sites[i].blobs);
    }
    struct timeval now = {0};
    (void)evtimer_add(world->carry, &now);
}

static void open_site(struct site *site)
{
    struct chp_error error = {0};
    const struct chp_blobs_config config = {.directory = site->directory,
                                            .blob_max_bytes = 64 * MIB,
                                            .fetch_timeout_ms = site->world->timeout_ms,
                                            .base = site->world->base,
                                            .user = site,
                                            .send = send_item};
    site->blobs = chp_blobs_new(&config, &error);
    assert_string_equal(error.text, "");
    assert_non_null(site->blobs);
}

static int set_up(void **state, uint64_t timeout_ms)
{
    struct world *world = chp_alloc(sizeof *world);
    world->timeout_ms = timeout_ms;
    world->base = event_base_new();
    world->carry = evtimer_new(world->base, world_on_carry, world);
    world->random = 42;
    chp_list_init(&world->queue);
    for (int i = 0; i < SITES; i++) {
        struct site *site = &world->sites[i];
        site->world = world;
        site->index = i;
        (void)snprintf(site->directory, sizeof site->directory, "/tmp/cheops-test-blob-XXXXXX");
        assert_non_null(mkdtemp(site->directory));
        open_site(site);
    }
    *state = world;
    return 0;
}

/* Where something must be asked again. */
static int set_up_impatient(void **state)
{
    return set_up(state, IMPATIENT_MS);
}

/* Where nothing may be sent twice, on a slow machine either. */
static int set_up_patient(void **state)
{
    return set_up(state, PATIENT_MS);
}

static int tear_down(void **state)
{
    struct world *world = *state;
    struct chp_list *node;
    while ((node = chp_list_first(&world->queue)) != NULL) {
        struct packet *packet = CHP_CONTAINER(node, struct packet, node);
        chp_list_remove(node);
        chp_buf_deinit(&packet->bytes);
        free(packet);
    }
    for (int i = 0; i < SITES; i++) {
        char command[128];
        chp_blobs_free(world->sites[i].blobs);
        (void)snprintf(command, sizeof command, "rm -r %s", world->sites[i].directory);
        assert_int_equal(system(command), 0); /* NOLINT: of the test's own making */
    }
    event_free(world->carry);
    event_base_free(world->base);
    free(world);
    return 0;
}

/* A blob of size bytes that nothing compresses or repeats. */
static struct chp_sha256 make_blob(struct site *site, uint64_t size)
{
    struct chp_blob_writer *writer = NULL;
    struct chp_error error = {0};
    struct chp_sha256 sha256;
    uint64_t kept = 0;
    uint64_t words[1024];
    assert_int_equal(chp_blob_begin(site->blobs, &writer, &error), 0);
    for (uint64_t done = 0; done < size;) {
        for (size_t i = 0; i < 1024; i++) {
            words[i] = next_random(site->world);
        }
        size_t len = size - done < sizeof words ? (size_t)(size - done) : sizeof words;
        assert_int_equal(chp_blob_write(writer, words, len, &error), 0);
        done += len;
    }
    assert_int_equal(chp_blob_finish(writer, &sha256, &kept, &error), 0);
    assert_int_equal(kept, size);
    assert_true(chp_blob_have(site->blobs, &sha256, &kept));
    assert_int_equal(kept, size);
    return sha256;
}

struct fetched {
    unsigned calls;
    int code;
};

static void on_fetched(void *user, const struct chp_sha256 *sha256, int code)
{
    struct fetched *fetched = user;
    assert_non_null(sha256);
    fetched->calls++;
    fetched->code = code;
}

static void turn(struct world *world, unsigned ms)
{
    struct timeval tick = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    (void)event_base_loopexit(world->base, &tick);
    (void)event_base_dispatch(world->base);
}

static void wait_for(struct world *world, const struct fetched *fetched)
{
    uint64_t until_ms = chp_clock_mono_ms() + WAIT_MS;
    while (fetched->calls == 0) {
        assert_true(chp_clock_mono_ms() < until_ms);
        struct timeval tick = {.tv_usec = 20000};
        (void)event_base_loopexit(world->base, &tick);
        (void)event_base_loop(world->base, EVLOOP_ONCE);
    }
    assert_int_equal(fetched->calls, 1);
}

static int fetch(struct site *site, const struct chp_sha256 *sha256, uint64_t size,
                 const char *const *sites, size_t count)
{
    struct fetched fetched = {0};
    chp_blob_fetch(site->blobs, sha256, size, sites, count, on_fetched, &fetched);
    assert_int_equal(fetched.calls, 0); /* not from inside */
    wait_for(site->world, &fetched);
    return fetched.code;
}

static void assert_whole(struct site *site, const struct chp_sha256 *sha256)
{
    char path[256];
    assert_int_equal(chp_blob_path(site->blobs, sha256, path, sizeof path), 0);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    struct chp_sha256_state *hash = chp_sha256_new();
    uint8_t buffer[8192];
    size_t got;
    while ((got = fread(buffer, 1, sizeof buffer, in)) > 0) {
        chp_sha256_update(hash, buffer, got);
    }
    (void)fclose(in);
    struct chp_sha256 found = chp_sha256_finish(hash);
    assert_memory_equal(&found, sha256, sizeof found);
}

static unsigned temporaries(const struct site *site)
{
    char command[128];
    char line[32] = "";
    (void)snprintf(command, sizeof command, "ls %s/tmp | wc -l", site->directory);
    FILE *pipe = popen(command, "r"); /* NOLINT: of the test's own making */
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof line, pipe));
    (void)pclose(pipe);
    return (unsigned)strtoul(line, NULL, 10);
}

static void writer_keeps_and_aborts(void **state)
{
    struct world *world = *state;
    struct site *site = &world->sites[0];
    struct chp_error error = {0};
    struct chp_blob_writer *writer = NULL;
    struct chp_sha256 hello = chp_sha256_of("hello", 5);
    struct chp_sha256 sha256;
    uint64_t size = 0;
    char path[256];
    assert_false(chp_blob_have(site->blobs, &hello, NULL));
    assert_int_equal(chp_blob_begin(site->blobs, &writer, &error), 0);
    assert_int_equal(chp_blob_write(writer, "he", 2, &error), 0);
    assert_int_equal(chp_blob_write(writer, "llo", 3, &error), 0);
    assert_false(chp_blob_have(site->blobs, &hello, NULL)); /* not before it is whole */
    assert_int_equal(chp_blob_finish(writer, &sha256, &size, &error), 0);
    assert_memory_equal(&sha256, &hello, sizeof hello);
    assert_whole(site, &sha256);
    assert_int_equal(chp_blob_path(site->blobs, &sha256, path, 20), CHP_ETOOBIG);

    assert_int_equal(chp_blob_begin(site->blobs, &writer, &error), 0);
    assert_int_equal(chp_blob_write(writer, "x", 1, &error), 0);
    assert_int_equal(temporaries(site), 1);
    chp_blob_abort(writer);
    chp_blob_abort(NULL);
    assert_int_equal(temporaries(site), 0);

    uint8_t *big = chp_alloc(33 * MIB);
    assert_int_equal(chp_blob_begin(site->blobs, &writer, &error), 0);
    assert_int_equal(chp_blob_write(writer, big, 33 * MIB, &error), 0);
    assert_int_equal(chp_blob_write(writer, big, 33 * MIB, &error), CHP_ETOOBIG);
    assert_non_null(strstr(error.text, "blob_max_bytes"));
    chp_blob_abort(writer);
    free(big);
}

static void incomplete_files_go_at_start(void **state)
{
    struct world *world = *state;
    struct site *site = &world->sites[0];
    struct chp_blob_writer *writer = NULL;
    struct chp_error error = {0};
    struct chp_sha256 kept = make_blob(site, 10);
    assert_int_equal(chp_blob_begin(site->blobs, &writer, &error), 0);
    assert_int_equal(temporaries(site), 1);
    struct chp_blobs *crashed = site->blobs;
    open_site(site);
    assert_int_equal(temporaries(site), 0);
    assert_true(chp_blob_have(site->blobs, &kept, NULL));
    chp_blob_abort(writer);
    chp_blobs_free(crashed);
}

static void fetches_every_size(void **state)
{
    struct world *world = *state;
    static const uint64_t sizes[] = {0,
                                     1,
                                     CHP_CHUNK_BYTES - 1,
                                     CHP_CHUNK_BYTES,
                                     CHP_CHUNK_BYTES + 1,
                                     (uint64_t)CHP_CHUNK_BYTES * CHP_CHUNKS_IN_FLIGHT,
                                     (uint64_t)CHP_CHUNK_BYTES * CHP_CHUNKS_IN_FLIGHT + 1,
                                     3 * MIB + 77};
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct chp_sha256 sha256 = make_blob(&world->sites[0], sizes[i]);
        assert_int_equal(fetch(&world->sites[1], &sha256, sizes[i], names, 1), 0);
        assert_whole(&world->sites[1], &sha256);
        total += sizes[i];
        assert_int_equal(chp_blobs_fetched_bytes(world->sites[1].blobs), total);
        /* What is here is not fetched. */
        assert_int_equal(fetch(&world->sites[1], &sha256, sizes[i], names, 1), 0);
        assert_int_equal(world->sites[0].chunk_bytes_sent, total);
    }
    assert_int_equal(temporaries(&world->sites[1]), 0);
}

/* 20 MiB to two sites at once, over queues with faults: whole on both, with what is under way and
 * the memory bounded. */
static void big_file_over_bad_links(void **state)
{
    struct world *world = *state;
    struct fetched fetched[2] = {0};
    struct chp_sha256 sha256 = make_blob(&world->sites[0], 20 * MIB + 5);
    struct rusage before;
    struct rusage after;
    world->lose_percent = 3;
    world->duplicate_percent = 5;
    world->reorder_percent = 20;
    (void)getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < 2; i++) {
        chp_blob_fetch(world->sites[i + 1].blobs, &sha256, 20 * MIB + 5, names, 1, on_fetched,
                       &fetched[i]);
    }
    wait_for(world, &fetched[0]);
    wait_for(world, &fetched[1]);
    (void)getrusage(RUSAGE_SELF, &after);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fetched[i].code, 0);
        assert_whole(&world->sites[i + 1], &sha256);
        assert_int_equal(temporaries(&world->sites[i + 1]), 0);
    }
    /* For each of the two a window, and what was asked again too early. */
    assert_true(world->queued_bytes_max < 2UL * 3 * CHP_CHUNK_BYTES * CHP_CHUNKS_IN_FLIGHT);
    if (!SANITIZED) {                                               /* whose own memory grows */
        assert_true(after.ru_maxrss - before.ru_maxrss < 8 * 1024); /* KiB */
    }
}

static void busy_broker_only_delays(void **state)
{
    struct world *world = *state;
    struct chp_sha256 sha256 = make_blob(&world->sites[0], 4 * MIB);
    world->queue_limit = 3;
    assert_int_equal(fetch(&world->sites[1], &sha256, 4 * MIB, names, 1), 0);
    assert_whole(&world->sites[1], &sha256);
    assert_true(world->queued_bytes_max < 4UL * CHP_CHUNK_BYTES);
    assert_true(world->sites[0].chunk_bytes_sent < 5 * MIB); /* hardly anything twice */
}

/* No broker at first, on either side. */
static void waits_for_the_broker(void **state)
{
    struct world *world = *state;
    struct fetched fetched = {0};
    struct chp_sha256 sha256 = make_blob(&world->sites[0], MIB);
    world->sites[0].busy = CHP_EUNAVAILABLE;
    world->sites[1].busy = CHP_EUNAVAILABLE;
    chp_blob_fetch(world->sites[1].blobs, &sha256, MIB, names, 1, on_fetched, &fetched);
    turn(world, 10);
    assert_int_equal(world->sites[0].fetches_seen, 0);
    world->sites[1].busy = 0;
    chp_blobs_drained(world->sites[1].blobs);
    turn(world, 10);
    assert_int_equal(world->sites[0].fetches_seen, 1);
    assert_int_equal(fetched.calls, 0);
    world->sites[0].busy = 0;
    chp_blobs_drained(world->sites[0].blobs);
    wait_for(world, &fetched);
    assert_int_equal(fetched.code, 0);
    assert_int_equal(world->sites[0].chunk_bytes_sent, MIB);
}

static void another_site_helps(void **state)
{
    struct world *world = *state;
    static const char *const both[] = {"Nantes", "Paris"};
    struct chp_sha256 sha256 = make_blob(&world->sites[2], 2 * MIB);
    /* Nantes says that it lacks it. */
    assert_int_equal(fetch(&world->sites[1], &sha256, 2 * MIB, both, 2), 0);
    assert_whole(&world->sites[1], &sha256);
    assert_int_equal(world->sites[0].fetches_seen, 1);
    /* Nantes does not answer. */
    sha256 = make_blob(&world->sites[2], 2 * MIB);
    world->sites[0].away = true;
    assert_int_equal(fetch(&world->sites[1], &sha256, 2 * MIB, both, 2), 0);
    assert_whole(&world->sites[1], &sha256);
}

static void goes_on_while_a_site_is_away(void **state)
{
    struct world *world = *state;
    struct fetched fetched = {0};
    struct chp_sha256 sha256 = make_blob(&world->sites[0], MIB);
    world->sites[0].away = true;
    chp_blob_fetch(world->sites[1].blobs, &sha256, MIB, names, 1, on_fetched, &fetched);
    turn(world, 700);
    assert_int_equal(fetched.calls, 0);
    world->sites[0].away = false;
    wait_for(world, &fetched);
    assert_int_equal(fetched.code, 0);
}

static void corrupt_copy_is_not_taken(void **state)
{
    struct world *world = *state;
    static const char *const both[] = {"Nantes", "Paris"};
    struct chp_sha256 sha256 = make_blob(&world->sites[0], MIB);
    char path[256];
    char command[800];
    char copy[256];
    assert_int_equal(chp_blob_path(world->sites[0].blobs, &sha256, path, sizeof path), 0);
    assert_int_equal(chp_blob_path(world->sites[2].blobs, &sha256, copy, sizeof copy), 0);
    (void)snprintf(command, sizeof command, "mkdir -p $(dirname %s) && cp %s %s", copy, path, copy);
    assert_int_equal(system(command), 0); /* NOLINT: of the test's own making */
    world->sites[0].corrupts = true;
    assert_int_equal(fetch(&world->sites[1], &sha256, MIB, both, 2), 0);
    assert_whole(&world->sites[1], &sha256);
    assert_true(world->sites[0].chunk_bytes_sent >= MIB);
    assert_true(world->sites[2].chunk_bytes_sent >= MIB);
}

static void nobody_has_it(void **state)
{
    struct world *world = *state;
    static const char *const both[] = {"Nantes", "Paris"};
    struct chp_sha256 sha256 = chp_sha256_of("x", 1);
    assert_int_equal(fetch(&world->sites[1], &sha256, 1, both, 2), CHP_ENOTFOUND);
    assert_int_equal(fetch(&world->sites[1], &sha256, 1, both, 0), CHP_ENOTFOUND);
    assert_int_equal(fetch(&world->sites[1], &sha256, 65 * MIB, both, 2), CHP_ETOOBIG);
    assert_int_equal(fetch(&world->sites[1], &sha256, 0, both, 2), CHP_ENOTFOUND);
    /* The size that was asked for is another one. */
    sha256 = make_blob(&world->sites[0], 100);
    assert_int_equal(fetch(&world->sites[1], &sha256, 99, names, 1), CHP_ENOTFOUND);
    /* Another time it is there. */
    assert_int_equal(fetch(&world->sites[1], &sha256, 100, names, 1), 0);
}

static void shared_and_canceled(void **state)
{
    struct world *world = *state;
    struct fetched fetched[4] = {0};
    struct chp_sha256 sha256 = make_blob(&world->sites[0], 3 * MIB);
    for (int i = 0; i < 3; i++) {
        chp_blob_fetch(world->sites[1].blobs, &sha256, 3 * MIB, names, 1, on_fetched, &fetched[i]);
    }
    chp_blob_fetch_cancel(world->sites[1].blobs, &fetched[1]);
    wait_for(world, &fetched[0]);
    wait_for(world, &fetched[2]);
    assert_int_equal(fetched[1].calls, 0);
    assert_int_equal(chp_blobs_fetched_bytes(world->sites[1].blobs), 3 * MIB);

    sha256 = make_blob(&world->sites[0], 3 * MIB);
    chp_blob_fetch(world->sites[1].blobs, &sha256, 3 * MIB, names, 1, on_fetched, &fetched[3]);
    (void)event_base_loop(world->base, EVLOOP_NONBLOCK);
    chp_blob_fetch_cancel(world->sites[1].blobs, &fetched[3]);
    turn(world, 100);
    assert_int_equal(fetched[3].calls, 0);
    assert_false(chp_blob_have(world->sites[1].blobs, &sha256, NULL));
    assert_int_equal(temporaries(&world->sites[1]), 0);
}

/* Twice as many files as may be under way, of a site that is away and of one that is there. */
static void many_files_wait_for_their_turn(void **state)
{
    enum { FILES = 2 * CHP_FETCHES_MAX };
    struct world *world = *state;
    struct fetched fetched[2 * FILES] = {0};
    struct site *here = &world->sites[1];
    world->sites[2].away = true;
    for (int i = 0; i < FILES; i++) {
        struct chp_sha256 sha256 = make_blob(&world->sites[2], MIB / 4);
        chp_blob_fetch(here->blobs, &sha256, MIB / 4, &names[2], 1, on_fetched, &fetched[i]);
    }
    turn(world, 5);
    for (int i = FILES; i < 2 * FILES; i++) {
        struct chp_sha256 sha256 = make_blob(&world->sites[0], MIB / 4);
        chp_blob_fetch(here->blobs, &sha256, MIB / 4, names, 1, on_fetched, &fetched[i]);
    }
    for (int i = FILES; i < 2 * FILES; i++) {
        wait_for(world, &fetched[i]);
        assert_int_equal(fetched[i].code, 0);
        assert_true(temporaries(here) <= CHP_FETCHES_MAX);
    }
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(fetched[i].calls, 0);
    }
    world->sites[2].away = false;
    for (int i = 0; i < FILES; i++) {
        wait_for(world, &fetched[i]);
        assert_int_equal(fetched[i].code, 0);
    }
    assert_int_equal(temporaries(here), 0);
}

static void odd_messages_do_no_harm(void **state)
{
    struct world *world = *state;
    struct fetched fetched = {0};
    struct chp_sha256 sha256 = make_blob(&world->sites[0], MIB);
    uint8_t data[CHP_CHUNK_BYTES] = {0};
    world->sites[0].away = true;
    chp_blob_fetch(world->sites[1].blobs, &sha256, MIB, names, 1, on_fetched, &fetched);
    const struct chp_chunk odd[] = {
        {.sha256 = sha256, .size = MIB, .offset = 1, .data = {data, CHP_CHUNK_BYTES}},
        {.sha256 = sha256, .size = MIB, .offset = MIB, .data = {data, 0}},
        {.sha256 = sha256, .size = MIB, .offset = UINT64_MAX, .data = {data, 5}},
        {.sha256 = sha256, .size = MIB, .offset = 0, .data = {data, 5}},
        {.sha256 = sha256, .size = MIB, .offset = 0, .data = {data, 0}},
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        chp_blobs_on_chunk(world->sites[1].blobs, "Nantes", &odd[i]);
    }
    /* A site that was not asked. */
    const struct chp_chunk foreign = {
        .sha256 = sha256, .size = MIB, .data = {data, CHP_CHUNK_BYTES}};
    chp_blobs_on_chunk(world->sites[1].blobs, "Paris", &foreign);
    assert_int_equal(chp_blobs_fetched_bytes(world->sites[1].blobs), 0);
    world->sites[0].away = false;
    const struct chp_fetch requests[] = {
        {.sha256 = sha256, .offset = MIB, .bytes = 1},
        {.sha256 = sha256, .offset = UINT64_MAX, .bytes = UINT64_MAX},
        {.sha256 = sha256, .offset = 0, .bytes = 0},
        {.sha256 = sha256, .offset = 0, .bytes = UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        chp_blobs_on_fetch(world->sites[0].blobs, "Paris", &requests[i]);
    }
    for (int i = 0; i < 1000; i++) {
        const struct chp_fetch many = {.sha256 = sha256, .offset = (uint64_t)i, .bytes = 10};
        chp_blobs_on_fetch(world->sites[0].blobs, "Paris", &many);
    }
    wait_for(world, &fetched);
    assert_int_equal(fetched.code, 0);
    assert_true(world->sites[0].chunk_bytes_sent < 4 * MIB);
}

int main(void)
{
#define PATIENT(name)   cmocka_unit_test_setup_teardown(name, set_up_patient, tear_down)
#define IMPATIENT(name) cmocka_unit_test_setup_teardown(name, set_up_impatient, tear_down)
    const struct CMUnitTest tests[] = {
        PATIENT(writer_keeps_and_aborts),
        PATIENT(incomplete_files_go_at_start),
        PATIENT(fetches_every_size),
        IMPATIENT(big_file_over_bad_links),
        PATIENT(busy_broker_only_delays),
        PATIENT(waits_for_the_broker),
        IMPATIENT(another_site_helps),
        IMPATIENT(goes_on_while_a_site_is_away),
        IMPATIENT(corrupt_copy_is_not_taken),
        PATIENT(nobody_has_it),
        IMPATIENT(many_files_wait_for_their_turn),
        PATIENT(shared_and_canceled),
        IMPATIENT(odd_messages_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
