/*
 * What SQLite 3.24 lacks and Python's sqlite3 module links to. Without them the module would not load;
 * with them it loads, and whoever calls one is told that it does not work.
 */
#include "sqlite3.h"

/* Since 3.25. */
SQLITE_API int sqlite3_create_window_function(
    sqlite3 *database, const char *name, int arguments, int encoding, void *context,
    void (*step)(sqlite3_context *, int, sqlite3_value **),
    void (*final)(sqlite3_context *),
    void (*value)(sqlite3_context *),
    void (*inverse)(sqlite3_context *, int, sqlite3_value **),
    void (*destroy)(void *))
{
    (void)database; (void)name; (void)arguments; (void)encoding; (void)step; (void)final;
    (void)value; (void)inverse;
    if (destroy) destroy(context);
    return SQLITE_ERROR;
}
