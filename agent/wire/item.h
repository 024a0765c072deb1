/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What messages carry (design sections 2, 3 and 4): the structs that wire encodes and decodes, and
 * that engine, store and doors share.
 *
 * Strings are valid UTF-8 without NUL, NUL-terminated. Decoded structs borrow from the arena that
 * they were decoded into, and their bytes from the message's body.
 */
#ifndef CHP_WIRE_ITEM_H
#define CHP_WIRE_ITEM_H

#include "base/arena.h"
#include "base/limits.h"
#include "base/sha256.h"
#include "base/uuid.h"

/* Routing keys (design section 3). The order is that of chp_key_name. */
enum chp_key {
    CHP_KEY_REQUEST,
    CHP_KEY_OPERATION,
    CHP_KEY_ACK,
    CHP_KEY_CONTROL,
    CHP_KEY_BEAT,
    CHP_KEY_BULK,
};
enum { CHP_KEY_COUNT = CHP_KEY_BULK + 1 };

enum chp_level {
    CHP_LEVEL_NONE,
    CHP_LEVEL_EVENTUAL,
    CHP_LEVEL_TRANSACTIONAL,
    CHP_LEVEL_STRONG,
};

/* State of one operation at one site (design, end of section 4). */
enum chp_state {
    CHP_STATE_ACCEPTED,   /* the origin committed it */
    CHP_STATE_QUEUED,     /* waits in the stream towards the site */
    CHP_STATE_DELIVERED,  /* the site committed it */
    CHP_STATE_RUNNING,    /* the site committed that it starts */
    CHP_STATE_DONE,       /* final, as are all that follow but in-doubt */
    CHP_STATE_FAILED,     /* ran and failed, or could not be run */
    CHP_STATE_REFUSED,    /* the site does not take it: reason says why */
    CHP_STATE_SUPERSEDED, /* another operation displaced it */
    CHP_STATE_VOIDED,     /* failed everywhere */
    CHP_STATE_EXPIRED,    /* level none: its deadline passed before it ran */
    CHP_STATE_IN_DOUBT,   /* a machine crash hid whether it ran */
};
enum { CHP_STATE_COUNT = CHP_STATE_IN_DOUBT + 1 };

/* (origin, incarnation, n): the n-th operation of that origin on that resource, from 1, without
 * gaps. */
struct chp_dot {
    const char *origin;
    uint64_t incarnation;
    uint64_t n;
};

/* Version vector: for each (origin, incarnation), all dots up to n. Sorted by origin, then
 * incarnation. */
struct chp_vector {
    struct chp_dot *entries;
    size_t count;
};

/* Dots first..last of one origin and incarnation. */
struct chp_range {
    const char *origin;
    uint64_t incarnation;
    uint64_t first;
    uint64_t last;
};

/* Hybrid logical clock (design 4.2). */
struct chp_stamp {
    uint64_t ms; /* 48 bits */
    uint32_t counter;
};

struct chp_file {
    const char *name; /* letters, digits, '.', '_', '-'; not starting with '.' or '-' */
    struct chp_sha256 sha256;
    uint64_t size;
    bool is_inline; /* content is here; otherwise it is a blob */
    struct chp_bytes content;
};

struct chp_operation {
    struct chp_uuid id;
    const char *resource;
    struct chp_dot dot;
    struct chp_stamp stamp;
    const char *type;
    enum chp_level level;
    const char *scope;    /* as printed by chp_scope_print */
    const char **members; /* the sites that the scope resolved to, sorted */
    size_t member_count;
    bool creates;             /* the resource did not exist at the origin */
    const char *driver;       /* "shell" or "http" */
    struct chp_bytes payload; /* for the driver: wire/payload.h */
    struct chp_bytes undo; /* payload that takes its effect back, for the same driver; or empty */
    const char *summary;   /* the payload in one line for people, not in the item */
    struct chp_file *files;
    size_t file_count;
    struct chp_vector
        context; /* what the origin held of this resource, this operation not included */
    struct chp_range *displaces; /* design section 6, rule 1 */
    size_t displaces_count;
    const char *key;       /* idempotency key */
    const char *principal; /* who asked, at the origin */
    uint64_t entered_ms;   /* wall clock of the origin */
    uint64_t deadline_ms;  /* duration that one execution may take */
    const char *config;    /* resolution matrix as JSON text, or NULL */
    uint64_t stable;       /* of its chain (origin, incarnation): every member holds all up to this
                              number, and the origin all that they had made before (section 4.8) */
};

struct chp_ack {
    struct chp_uuid operation;
    const char *resource;
    const char *site; /* whose execution it is */
    uint64_t incarnation;
    uint32_t run; /* the highest wins */
    enum chp_state state;
    int32_t exit_code;       /* of a command, or the HTTP status; -1 when there is none */
    const char *reason;      /* why it failed or was refused; NULL when done */
    struct chp_bytes output; /* at most CHP_OUTPUT_MAX_BYTES, any bytes */
    bool output_cut;
    bool unverified;     /* ran after an operation that follows it in the sequence */
    uint64_t started_ms; /* wall clock of that site */
    uint64_t duration_ms;
    bool own_given;
    uint64_t own; /* the site holds the operation, and had made so many of this resource itself, in
                     this incarnation, when it said so (section 4.8) */
};

/* Asks for operations that are missing here (design 4.4); unnumbered, answered on the operation
 * stream. */
struct chp_want {
    const char *resource;
    struct chp_range range;
};

/* A reading command for a resource, not recorded anywhere; unnumbered, gone after its deadline. */
struct chp_show {
    struct chp_uuid id;
    const char *resource;
    const char *driver;
    struct chp_bytes payload;
    const char *principal;
    uint64_t deadline_ms; /* duration */
};

struct chp_answer {
    struct chp_uuid id; /* of the show */
    const char *site;
    enum chp_state state; /* done, failed or refused */
    int32_t exit_code;
    const char *reason;
    struct chp_bytes output;
    bool output_cut;
    uint64_t duration_ms;
};

/* Asks for chunks of a blob: [offset, offset + bytes). Unnumbered. */
struct chp_fetch {
    struct chp_sha256 sha256;
    uint64_t offset;
    uint64_t bytes;
};

/* A piece of a blob on the bulk lane; missing says that this site does not have it. */
struct chp_chunk {
    struct chp_sha256 sha256;
    uint64_t size; /* of the whole blob */
    uint64_t offset;
    struct chp_bytes data;
    bool missing;
};

/* Asks for a stream again from after + 1: something of it did not arrive (design 4.7). Unnumbered.
 */
struct chp_repair {
    enum chp_key key;
    uint64_t after;
};

/* The answer to a want: this site does not have the first of these either (design 4.4). Unnumbered.
 */
struct chp_none {
    const char *resource;
    struct chp_range range;
    bool forgotten; /* they were there, and are not needed any more (section 4.8) */
};

/* An operation that the receiver lacks, given on the operation stream by a site that holds it, with
 * what that site knows of its executions (design section 4, incarnations): a receiver whose
 * database went back in time may have run it. From wire version 2. */
struct chp_past {
    struct chp_bytes operation; /* the item of the operation, as its origin encoded it */
    uint64_t number;         /* the giver is its origin: in the stream to the receiver when it was
                                delivered first; else 0 */
    struct chp_bytes theirs; /* item of an ack: the receiver's own execution as the operation's
                                origin, which gives it, knows it; else empty */
    struct chp_bytes ours;   /* item of an ack: the giver's execution, for the receiver that is the
                                operation's origin; else empty */
};

struct chp_report_entry {
    const char *resource;
    struct chp_vector vector;
};

/* What the sender holds of resources that the receiver is a member of: a page of those with
 * operations that the receiver has not been told of (design 4.7). Unnumbered; repeated until it is
 * answered by "reported". From wire version 2. */
struct chp_report {
    uint64_t upto;           /* arrival at the sender: comes back in the answer */
    bool end;                /* nothing follows for now */
    uint64_t operation_mark; /* up to where the receiver has said to have the sender's streams */
    uint64_t ack_mark;
    uint64_t to; /* the receiver's incarnation, as the sender knows it; 0: not said */
    struct chp_report_entry *entries; /* at most CHP_REPORT_ENTRIES_MAX */
    size_t entry_count;
};

/* The sender holds everything of the receiver's report up to there. */
struct chp_reported {
    uint64_t upto;
};

/* The receiver gave a dot again that is known with another id: its database went back in time, it
 * must take a new incarnation (design section 4). Unnumbered. From wire version 2. */
struct chp_reincarnate {
    const char *resource;
    struct chp_dot dot;
    struct chp_uuid operation; /* that is known here with this dot */
};

/* How an execution that is in doubt ended, or that it shall run again (design 4.5). */
enum chp_resolution {
    CHP_RESOLVE_DONE,
    CHP_RESOLVE_FAILED,
    CHP_RESOLVE_RERUN,
    /* Not of an execution, but of the replica that the operation is of: it runs again what makes
     * the state, from the last operation that makes the whole of it, or on an emptied application.
     */
    CHP_RESOLVE_REBUILD,
    CHP_RESOLVE_REBUILD_EMPTY,
};
enum { CHP_RESOLUTION_COUNT = CHP_RESOLVE_REBUILD_EMPTY + 1 };

/* For the execution at the receiver; unnumbered, answered by "resolved", gone after a while. From
 * wire version 2. */
struct chp_resolve {
    struct chp_uuid id; /* of the request, comes back in the answer */
    struct chp_uuid operation;
    enum chp_resolution resolution;
    const char *principal;
};

struct chp_resolved {
    struct chp_uuid id;
    bool ok;
    const char *reason; /* why not; NULL when ok */
};

struct chp_beat {
    uint64_t sent_us; /* monotonic clock of the sender */
    uint64_t
        echo_us; /* sent_us of the last beat that the sender had from the receiver, 0 for none */
    uint64_t held_us;     /* how long ago that one arrived */
    uint64_t wall_ms;     /* wall clock of the sender */
    uint32_t version;     /* highest wire version that the sender speaks */
    uint32_t version_min; /* lowest */
    const char *software; /* its release */
};

enum chp_item_kind {
    CHP_ITEM_OPERATION = 1,
    CHP_ITEM_ACK = 2,
    CHP_ITEM_WANT = 3,
    CHP_ITEM_SHOW = 4,
    CHP_ITEM_ANSWER = 5,
    CHP_ITEM_FETCH = 6,
    CHP_ITEM_CHUNK = 7,
    CHP_ITEM_BEAT = 8,
    CHP_ITEM_REPAIR = 9,
    CHP_ITEM_PAST = 10,
    CHP_ITEM_NONE = 11,
    CHP_ITEM_REPORT = 12,
    CHP_ITEM_REPORTED = 13,
    CHP_ITEM_REINCARNATE = 14,
    CHP_ITEM_RESOLVE = 15,
    CHP_ITEM_RESOLVED = 16,
};

struct chp_item {
    enum chp_item_kind kind;
    union {
        struct chp_operation operation;
        struct chp_ack ack;
        struct chp_want want;
        struct chp_show show;
        struct chp_answer answer;
        struct chp_fetch fetch;
        struct chp_chunk chunk;
        struct chp_beat beat;
        struct chp_repair repair;
        struct chp_past past;
        struct chp_none none;
        struct chp_report report;
        struct chp_reported reported;
        struct chp_reincarnate reincarnate;
        struct chp_resolve resolve;
        struct chp_resolved resolved;
    };
};

/* Low-water mark: the receiver has committed everything of this stream up to n (design 4.7). */
struct chp_mark {
    enum chp_key key;
    uint64_t incarnation; /* of the sender of the stream */
    uint64_t n;
};

struct chp_header {
    uint32_t version;
    const char *from;
    const char *to;
    uint64_t incarnation; /* of from */
    enum chp_key key;
    uint64_t first; /* number of the first item in the stream from->to of key; 0: not numbered */
    struct chp_mark marks[CHP_KEY_COUNT]; /* what from has committed of to's streams */
    size_t mark_count;
};

/* A message: its header and its items, each exactly the bytes that its origin encoded. */
struct chp_message {
    struct chp_header header;
    struct chp_bytes *items;
    size_t item_count;
};

const char *chp_key_name(
    enum chp_key key); /* "request", "operation", "ack", "control", "beat", "bulk" */
const char *chp_level_name(enum chp_level level);
const char *chp_state_name(enum chp_state state); /* "in-doubt" for CHP_STATE_IN_DOUBT */
const char *chp_resolution_name(enum chp_resolution resolution); /* "done", "failed", "rerun",
                                                                    "rebuild", "rebuild-empty" */
int chp_key_parse(const char *text, enum chp_key *key) CHP_MUST_CHECK;
int chp_level_parse(const char *text, enum chp_level *level) CHP_MUST_CHECK;
int chp_state_parse(const char *text, enum chp_state *state) CHP_MUST_CHECK;
int chp_resolution_parse(const char *text, enum chp_resolution *resolution) CHP_MUST_CHECK;
/* Done, failed, refused, superseded, voided, expired: nothing follows without a new run. */
bool chp_state_final(enum chp_state state);

/* By (ms, counter); then origin, then id is arbitration order (design section 6). */
int chp_stamp_compare(struct chp_stamp a, struct chp_stamp b);
int chp_arbitration_compare(struct chp_stamp a, const char *a_origin, const struct chp_uuid *a_id,
                            struct chp_stamp b, const char *b_origin, const struct chp_uuid *b_id);

/* Rules for names, each with a sentence in *error that says what is allowed. */
int chp_resource_id_check(const char *id, struct chp_error *error) CHP_MUST_CHECK;
int chp_type_check(const char *type, struct chp_error *error) CHP_MUST_CHECK;
int chp_file_name_check(const char *name, struct chp_error *error) CHP_MUST_CHECK;
int chp_site_name_check(const char *site, struct chp_error *error) CHP_MUST_CHECK;

/* Highest n held contiguously of (origin, incarnation), 0 when none. */
uint64_t chp_vector_get(const struct chp_vector *vector, const char *origin, uint64_t incarnation);
/* Sets it, keeping the order; entries grow in arena. */
void chp_vector_set(struct chp_vector *vector, struct chp_arena *arena, const char *origin,
                    uint64_t incarnation, uint64_t n);
/* A copy with its strings, all in arena. */
struct chp_vector chp_vector_copy(const struct chp_vector *vector, struct chp_arena *arena);
/* True when everything in context is in vector. */
bool chp_vector_includes(const struct chp_vector *vector, const struct chp_vector *context);

#endif
