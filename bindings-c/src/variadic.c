/*
 * The two variadic functions of the C API. Stable Rust can't define such functions, so these read their arguments and
 * call the ones that take arrays.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* The layout that rdkafka.h declares as rd_kafka_vu_t; checked against Rust's in a unit test. */
typedef struct {
        int32_t vtype;
        union {
                const char *cstr;
                void *ptr;
                int32_t i32;
                int i;
                int64_t i64;
                struct {
                        void *ptr;
                        size_t size;
                } mem;
                struct {
                        const char *name;
                        const void *val;
                        ssize_t size;
                } header;
                char room[64];
        } u;
} vu_t;

enum { END, TOPIC, RKT, PARTITION, VALUE, KEY, OPAQUE, MSGFLAGS, TIMESTAMP, HEADER, HEADERS };

void *rd_kafka_produceva(void *rk, const vu_t *vus, size_t count);
int32_t rd_kafka_error_code(const void *error);
void rd_kafka_error_destroy(void *error);
void *ottla_error_new(int32_t code, const char *message);

/* More than any caller writes down: each argument stands in the source text. */
#define MOST_ARGUMENTS 256

int32_t rd_kafka_producev(void *rk, ...) {
        vu_t vus[MOST_ARGUMENTS + 1];
        size_t count = 0;
        int vtype;
        va_list arguments;
        va_start(arguments, rk);
        while ((vtype = va_arg(arguments, int)) != END) {
                vu_t *vu = &vus[count++];
                vu->vtype = vtype;
                if (count > MOST_ARGUMENTS || vtype < END || vtype > HEADERS) {
                        /* What follows can't be read: the function below refuses this one. */
                        vu->vtype = -1;
                        break;
                }
                switch (vtype) {
                case TOPIC:
                        vu->u.cstr = va_arg(arguments, const char *);
                        break;
                case RKT:
                case OPAQUE:
                case HEADERS:
                        vu->u.ptr = va_arg(arguments, void *);
                        break;
                case PARTITION:
                        vu->u.i32 = va_arg(arguments, int32_t);
                        break;
                case MSGFLAGS:
                        vu->u.i = va_arg(arguments, int);
                        break;
                case TIMESTAMP:
                        vu->u.i64 = va_arg(arguments, int64_t);
                        break;
                case VALUE:
                case KEY:
                        vu->u.mem.ptr = va_arg(arguments, void *);
                        vu->u.mem.size = va_arg(arguments, size_t);
                        break;
                case HEADER:
                        vu->u.header.name = va_arg(arguments, const char *);
                        vu->u.header.val = va_arg(arguments, const void *);
                        vu->u.header.size = va_arg(arguments, ssize_t);
                        break;
                }
        }
        va_end(arguments);
        void *error = rd_kafka_produceva(rk, vus, count);
        int32_t code = error ? rd_kafka_error_code(error) : 0;
        rd_kafka_error_destroy(error);
        return code;
}

void *rd_kafka_error_new(int32_t code, const char *format, ...) {
        char message[512];
        if (!format)
                return ottla_error_new(code, NULL);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(message, sizeof message, format, arguments);
        va_end(arguments);
        return ottla_error_new(code, message);
}
