/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Lines of a fixed length, so that each can be written in place:
 *
 *     cheops high-water 1 <inode of this file> <its time of birth> <id of this machine>
 *     life <incarnation> <serial> <last event> <database>
 *     taken <incarnation> <mark> <site>          one for each peer
 *
 * The first line says that the file is where it was made: a copy of the directory, which
 * may be of any age, is not.
 */
#include "daemon/high_water.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LINE_BYTES = 256,
    MACHINE_BYTES = 64,
    DATABASE_BYTES = 128,
    LIFE_LINE = 1,
    TAKEN_LINE = 2,
};

static_assert(LINE_BYTES > CHP_SITE_MAX_BYTES + 64, "a line takes a site and two numbers");

struct high_water {
    int fd; /* -1: there is none yet */
    int directory;
    char machine[MACHINE_BYTES];
    char database[DATABASE_BYTES];
    struct chp_high_water known;
    struct chp_taken *taken; /* of the configured peers, in their order */
    size_t taken_count;
    bool made; /* since it was opened: its lines are those of the configured peers */
    bool dirty;
};

static const char file_name[] = "high-water";

static void read_machine(char *machine)
{
    FILE *file = fopen("/etc/machine-id", "re");
    if (file == NULL || fgets(machine, MACHINE_BYTES, file) == NULL) {
        (void)snprintf(machine, MACHINE_BYTES, "-");
    }
    machine[strcspn(machine, " \n")] = 0;
    if (file != NULL) {
        (void)fclose(file);
    }
}

static void put_line(char *line, const char *text)
{
    size_t len = strlen(text);
    CHP_ASSERT(len < LINE_BYTES);
    for (size_t i = 0; i < LINE_BYTES - 1; i++) {
        line[i] = i < len ? text[i] : ' ';
    }
    line[LINE_BYTES - 1] = '\n';
}

static void life_line(const struct high_water *water, char *line)
{
    char text[LINE_BYTES];
    (void)snprintf(text, sizeof text, "life %" PRIu64 " %" PRIu64 " %" PRIu64 " %s",
                   water->known.incarnation, water->known.serial, water->known.event_last,
                   water->database[0] == 0 ? "-" : water->database);
    put_line(line, text);
}

static void taken_line(const struct chp_taken *taken, char *line)
{
    char text[LINE_BYTES];
    (void)snprintf(text, sizeof text, "taken %" PRIu64 " %" PRIu64 " %s", taken->incarnation,
                   taken->mark, taken->site);
    put_line(line, text);
}

static void write_line(struct high_water *water, size_t index, const char *line)
{
    if (pwrite(water->fd, line, LINE_BYTES, (off_t)(index * LINE_BYTES)) != LINE_BYTES) {
        /* It is behind now, which only weakens what it can show. */
        chp_log_error("cannot write the high-water file", CHP_S("error", strerror(errno)));
    }
    water->dirty = true;
}

/* The rest of the line, without the padding. */
static char *rest_of(char *at)
{
    size_t len = strcspn(at, "\n");
    while (len > 0 && at[len - 1] == ' ') {
        len--;
    }
    at[len] = 0;
    return at;
}

static bool parse_taken(char *line, struct chp_taken *taken)
{
    int at = 0;
    if (sscanf(line, "taken %" SCNu64 " %" SCNu64 " %n", &taken->incarnation, &taken->mark, &at) !=
            2 ||
        at == 0) {
        return false;
    }
    taken->site = rest_of(line + at);
    return taken->site[0] != 0;
}

static void keep_taken(struct high_water *water, const struct chp_taken *taken)
{
    for (size_t i = 0; i < water->taken_count; i++) {
        if (strcmp(water->taken[i].site, taken->site) == 0) {
            water->taken[i].incarnation = taken->incarnation;
            water->taken[i].mark = taken->mark;
        }
    }
}

/* What a copy does not have in common with the file; false when that can't be found out. */
static bool identify(const struct high_water *water, int fd, char *line)
{
    struct statx status;
    char text[LINE_BYTES];
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) != 0) {
        return false;
    }
    bool has_birth = (status.stx_mask & STATX_BTIME) != 0;
    (void)snprintf(text, sizeof text, "cheops high-water 1 %" PRIu64 " %" PRId64 ".%09u %s",
                   (uint64_t)status.stx_ino, has_birth ? (int64_t)status.stx_btime.tv_sec : 0,
                   has_birth ? status.stx_btime.tv_nsec : 0, water->machine);
    put_line(line, text);
    return true;
}

static bool parse(struct high_water *water, FILE *file, char *identity)
{
    char line[LINE_BYTES + 1];
    struct chp_taken taken;
    int at = 0;
    if (fread(identity, 1, LINE_BYTES, file) != LINE_BYTES ||
        strncmp(identity, "cheops high-water 1 ", 20) != 0 ||
        fgets(line, sizeof line, file) == NULL ||
        sscanf(line, "life %" SCNu64 " %" SCNu64 " %" SCNu64 " %n", &water->known.incarnation,
               &water->known.serial, &water->known.event_last, &at) != 3 ||
        at == 0) {
        return false;
    }
    (void)snprintf(water->database, sizeof water->database, "%s", rest_of(line + at));
    while (fgets(line, sizeof line, file) != NULL) {
        if (!parse_taken(line, &taken)) {
            return false;
        }
        keep_taken(water, &taken);
    }
    return true;
}

/* Reads the file that is there. One that is damaged, or a copy, is not relied on. */
static void load(struct high_water *water)
{
    char identity[LINE_BYTES];
    char found[LINE_BYTES];
    int copy = dup(water->fd);
    FILE *file = copy < 0 ? NULL : fdopen(copy, "r");
    water->known.found = true;
    if (file == NULL || !identify(water, water->fd, identity) || !parse(water, file, found)) {
        water->known.doubt = "the high-water file is damaged";
    } else if (memcmp(identity, found, LINE_BYTES) != 0) {
        water->known.doubt = "the state directory is a copy";
    }
    if (strcmp(water->database, "-") != 0 && water->database[0] != 0) {
        water->known.database = water->database;
    }
    if (file != NULL) {
        (void)fclose(file);
    } else if (copy >= 0) {
        (void)close(copy);
    }
}

/* A new file with what is known, in place of the old one. */
static int make(struct high_water *water)
{
    char line[LINE_BYTES];
    int fd = openat(water->directory, "high-water.new", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
                    S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return -1;
    }
    int old = water->fd;
    water->fd = fd;
    bool identified = identify(water, fd, line);
    write_line(water, 0, line);
    life_line(water, line);
    write_line(water, LIFE_LINE, line);
    for (size_t i = 0; i < water->taken_count; i++) {
        taken_line(&water->taken[i], line);
        write_line(water, TAKEN_LINE + i, line);
    }
    if (!identified || fsync(fd) != 0 ||
        renameat(water->directory, "high-water.new", water->directory, file_name) != 0 ||
        fsync(water->directory) != 0) {
        water->fd = old;
        (void)close(fd);
        return -1;
    }
    if (old >= 0) {
        (void)close(old);
    }
    water->known.found = true;
    water->known.doubt = NULL;
    return 0;
}

struct high_water *high_water__open(const char *directory, const struct chp_engine_peer *peers,
                                    size_t peer_count, struct chp_error *error)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        (void)chp_error_set(error, CHP_EIO, "cannot open the state directory %s: %s", directory,
                            strerror(errno));
        return NULL;
    }
    struct high_water *water = chp_alloc(sizeof *water);
    water->directory = fd;
    water->taken = chp_calloc(peer_count, sizeof *water->taken);
    water->taken_count = peer_count;
    for (size_t i = 0; i < peer_count; i++) {
        water->taken[i].site = peers[i].site;
    }
    water->known.taken = water->taken;
    water->known.taken_count = peer_count;
    read_machine(water->machine);
    water->fd = openat(fd, file_name, O_RDWR | O_CLOEXEC);
    if (water->fd >= 0) {
        load(water);
    }
    return water;
}

void high_water__free(struct high_water *water)
{
    if (water == NULL) {
        return;
    }
    if (water->fd >= 0) {
        (void)close(water->fd);
    }
    (void)close(water->directory);
    free(water->taken);
    free(water);
}

const struct chp_high_water *high_water__known(const struct high_water *water)
{
    return &water->known;
}

void high_water__advance(struct high_water *water, const struct chp_high_water *now)
{
    char line[LINE_BYTES];
    water->known.incarnation = now->incarnation;
    water->known.serial = now->serial;
    water->known.event_last = now->event_last;
    if (now->database != NULL) {
        (void)snprintf(water->database, sizeof water->database, "%s", now->database);
        water->known.database = water->database;
    }
    if (!water->made) {
        water->made = make(water) == 0;
        if (!water->made) {
            chp_log_error("cannot make the high-water file", CHP_S("error", strerror(errno)));
        }
        return;
    }
    life_line(water, line);
    write_line(water, LIFE_LINE, line);
}

void high_water__taken(struct high_water *water, size_t peer, uint64_t incarnation, uint64_t mark)
{
    struct chp_taken *taken = &water->taken[peer];
    if (!water->made || (taken->incarnation == incarnation && taken->mark == mark)) {
        return;
    }
    char line[LINE_BYTES];
    taken->incarnation = incarnation;
    taken->mark = mark;
    taken_line(taken, line);
    write_line(water, TAKEN_LINE + peer, line);
}

void high_water__tick(struct high_water *water)
{
    if (water->dirty && water->fd >= 0) {
        water->dirty = false;
        (void)sync_file_range(water->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
}
