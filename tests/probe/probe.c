/* SPDX-License-Identifier: AGPL-3.0-only */
/* Calls what the engine must not reach. Linked with the engine alone it must not link; with the
 * library it must. */
#if defined(PROBE_EVENT)
#include <event2/event.h>
#define PROBE event_base_new
#elif defined(PROBE_POSTGRES)
#include <libpq-fe.h>
#define PROBE PQlibVersion
#elif defined(PROBE_RABBITMQ)
#include <amqp.h>
#define PROBE amqp_new_connection
#elif defined(PROBE_CURL)
#include <curl/curl.h>
#define PROBE curl_easy_init
#elif defined(PROBE_STORE)
#include "store/pg_store.h"
#define PROBE chp_pg_schema_version
#endif

int main(void)
{
    return (void (*)(void))PROBE == (void (*)(void))main;
}
