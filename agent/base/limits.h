/* SPDX-License-Identifier: AGPL-3.0-only */
/* Every bound of the project that is not configuration, and where it comes from. */
#ifndef CHP_BASE_LIMITS_H
#define CHP_BASE_LIMITS_H

#include <assert.h>

enum {
    /* Messages (design section 3). */
    CHP_MESSAGE_ITEMS_MAX = 256,
    CHP_MESSAGE_CLOSE_BYTES = 128 * 1024, /* a message that reached this takes no further item */
    CHP_MESSAGE_MAX_BYTES = 1024 * 1024,
    CHP_ITEM_MAX_BYTES = 512 * 1024, /* one item always fits in a message with its header */
    CHP_PAST_MAX_BYTES = 648 * 1024, /* of the one kind that has other items in it */
    CHP_WIRE_DEPTH_MAX = 16,
    CHP_WIRE_ELEMENTS_MAX = 16384, /* of one item or header, all levels together */

    CHP_REPORT_ENTRIES_MAX = 256, /* resources in one report */

    /* Requests. */
    CHP_ID_MAX_BYTES = 200,   /* resource ids, types, keys, principals, services */
    CHP_TYPE_MAX_BYTES = 64,  /* op types, names of drivers */
    CHP_SITE_MAX_BYTES = 100, /* site names; "cheops.<S>.operations" must fit in AMQP's 255 */
    CHP_SITES_MAX = 256,      /* known sites */
    CHP_SCOPE_MAX_BYTES = 4096,
    CHP_SCOPE_DEPTH_MAX = 32,
    CHP_SCOPE_NODES_MAX = 1024,
    CHP_PAYLOAD_MAX_BYTES =
        64 * 1024,                  /* command or REST request without files (design section 3) */
    CHP_UNDO_MAX_BYTES = 16 * 1024, /* what takes it back */
    CHP_ARGV_MAX = 1024,
    CHP_FILES_MAX = 64,
    CHP_FILE_NAME_MAX_BYTES = 200,
    CHP_FILE_INLINE_MAX_BYTES = 64 * 1024, /* larger files travel as blobs */
    CHP_FILES_INLINE_MAX_BYTES =
        128 * 1024,                   /* of one operation together; further ones travel as blobs */
    CHP_CONFIG_MAX_BYTES = 64 * 1024, /* a resolution matrix as JSON */
    CHP_MATRIX_ROWS_MAX = 1024,
    CHP_MATRIX_TYPES_MAX = 256, /* a compiled matrix has a byte for each pair */
    CHP_VECTOR_MAX = 2048,      /* (origin, incarnation) pairs of one resource */
    CHP_DISPLACES_MAX = 1024,   /* ranges of dots that one operation displaces */
    CHP_KINDS_MAX = 256,        /* types of one resource, each under each matrix that it had */
    CHP_DEADLINE_DEFAULT_MS = 60 * 1000,
    CHP_DEADLINE_MAX_MS = 24 * 3600 * 1000,

    /* Replies over AMQP. */
    CHP_LISTENERS_MAX = 16, /* of one operation, beside who asked first: the last to ask again */

    /* What is forgotten for its age. */
    CHP_KEYS_KEPT_MS = 7 * 24 * 3600 * 1000, /* idempotency keys (design 4.1) and replies */
    CHP_FORGET_MAX = 5000,                   /* rows of a table at a time, so that none is slow */

    /* Executions. */
    CHP_OUTPUT_MAX_BYTES = 64 * 1024, /* kept and sent; the rest is cut and marked */
    CHP_REASON_MAX_BYTES = 500,

    /* Blobs (design section 3). */
    CHP_CHUNK_BYTES = 128 * 1024,
    CHP_CHUNKS_IN_FLIGHT = 8,

    /* Streams (design section 3): towards one site, not yet returned in its marks. */
    CHP_OUT_MESSAGES_MAX = 1000,
    CHP_OUT_BYTES_MAX = 16 * 1024 * 1024,

    /* What an agent has in its hands at a time. Together with the caches of the engine they bound
     * its memory whatever waits outside: agent/doc/architecture.md has the table. */
    CHP_INBOUND_MAX_BYTES = 8 * 1024 * 1024, /* of messages that are not acked: 64 full ones */
    CHP_INBOUND_ITEM_BYTES = 4096, /* counted for each item beside its bytes: decoded, in a batch */
    CHP_SUBMISSIONS_MAX = 1024,    /* requests of the HTTP door that wait for a reply */
    CHP_SUBMISSIONS_MAX_BYTES = 16 * 1024 * 1024,
    CHP_SHOWS_MAX = 256,    /* reading commands asked for here, and running here */
    CHP_RESOLVES_MAX = 256, /* executions in doubt being resolved, here and at other sites */
    CHP_FETCHES_MAX = 16,   /* blobs being fetched: each has a file open and a window on its way */

    /* Items of one site, of kinds that only a later version knows, that wait for the upgrade:
     * enough for the traffic of a day between upgrades, little enough not to fill a site's disk. */
    CHP_UNDECODED_MAX = 10000,
    CHP_UNDECODED_MAX_BYTES = 64 * 1024 * 1024,
};

static_assert(CHP_PAST_MAX_BYTES + CHP_MESSAGE_CLOSE_BYTES < CHP_MESSAGE_MAX_BYTES,
              "a message that may still take an item must have room for the largest");
static_assert(CHP_ITEM_MAX_BYTES + 2 * (CHP_OUTPUT_MAX_BYTES + CHP_REASON_MAX_BYTES + 1024) <
                  CHP_PAST_MAX_BYTES,
              "an operation fits in an item with two acks");
static_assert(CHP_PAYLOAD_MAX_BYTES + CHP_UNDO_MAX_BYTES + CHP_FILES_INLINE_MAX_BYTES +
                      CHP_CONFIG_MAX_BYTES + CHP_SCOPE_MAX_BYTES + CHP_VECTOR_MAX * 64 <
                  CHP_ITEM_MAX_BYTES,
              "an operation with everything at its bound fits in an item");
static_assert(CHP_OUTPUT_MAX_BYTES + CHP_REASON_MAX_BYTES < CHP_ITEM_MAX_BYTES,
              "an ack fits in an item");
static_assert(CHP_CHUNK_BYTES < CHP_ITEM_MAX_BYTES, "a chunk fits in an item");
static_assert(
    2 * (CHP_MESSAGE_MAX_BYTES + CHP_MESSAGE_ITEMS_MAX * CHP_INBOUND_ITEM_BYTES) <=
        CHP_INBOUND_MAX_BYTES,
    "half of what may be in hand takes the largest message: else it would come to a halt");
static_assert(CHP_FETCHES_MAX * CHP_CHUNKS_IN_FLIGHT * CHP_CHUNK_BYTES <= CHP_OUT_BYTES_MAX,
              "the windows of all fetches from one site fit into what may be on its way");
static_assert(CHP_OUT_MESSAGES_MAX * CHP_MESSAGE_ITEMS_MAX >= CHP_OUT_BYTES_MAX / 1024,
              "small items fill the window by bytes, not by messages");
static_assert(CHP_ITEM_MAX_BYTES <= CHP_OUT_BYTES_MAX / 16, "a window holds many of the largest");
static_assert(CHP_ITEM_MAX_BYTES <= CHP_SUBMISSIONS_MAX_BYTES / 16,
              "many of the largest requests may wait together");

#endif
