
/* ---- Functions with any number of arguments ---- */

/**
 * Produces one message, whose parts are named by the macros RD_KAFKA_V_*, ended by RD_KAFKA_V_END:
 * rd_kafka_producev(rk, RD_KAFKA_V_TOPIC("t"), RD_KAFKA_V_VALUE(data, size), RD_KAFKA_V_END).
 */
RD_EXPORT rd_kafka_resp_err_t rd_kafka_producev(rd_kafka_t *rk, ...);

/**
 * A new error with a text made like printf's; a null format takes the code's own text.
 */
RD_EXPORT rd_kafka_error_t *rd_kafka_error_new(rd_kafka_resp_err_t code, const char *fmt, ...) RD_FORMAT(printf, 2, 3);

#if defined(__GNUC__) && !defined(__cplusplus)
/* The compiler checks that the argument can be what it should be, though it isn't evaluated twice. */
#define RD_KAFKA_V_CHECKED_(TYPE, VALUE)                                                                               \
        __extension__({                                                                                                \
                TYPE checked_ = (VALUE);                                                                               \
                checked_;                                                                                              \
        })
#else
#define RD_KAFKA_V_CHECKED_(TYPE, VALUE) ((TYPE)(VALUE))
#endif

/** The end of the arguments. */
#define RD_KAFKA_V_END RD_KAFKA_VTYPE_END
/** The topic by name. */
#define RD_KAFKA_V_TOPIC(topic) RD_KAFKA_VTYPE_TOPIC, RD_KAFKA_V_CHECKED_(const char *, topic)
/** The topic's object. */
#define RD_KAFKA_V_RKT(rkt) RD_KAFKA_VTYPE_RKT, RD_KAFKA_V_CHECKED_(rd_kafka_topic_t *, rkt)
/** The partition. */
#define RD_KAFKA_V_PARTITION(partition) RD_KAFKA_VTYPE_PARTITION, RD_KAFKA_V_CHECKED_(int32_t, partition)
/** The value and its size. */
#define RD_KAFKA_V_VALUE(value, len)                                                                                   \
        RD_KAFKA_VTYPE_VALUE, RD_KAFKA_V_CHECKED_(void *, value), RD_KAFKA_V_CHECKED_(size_t, len)
/** The key and its size. */
#define RD_KAFKA_V_KEY(key, len)                                                                                       \
        RD_KAFKA_VTYPE_KEY, RD_KAFKA_V_CHECKED_(const void *, key), RD_KAFKA_V_CHECKED_(size_t, len)
/** The application's pointer. */
#define RD_KAFKA_V_OPAQUE(msg_opaque) RD_KAFKA_VTYPE_OPAQUE, RD_KAFKA_V_CHECKED_(void *, msg_opaque)
/** RD_KAFKA_MSG_F_*. */
#define RD_KAFKA_V_MSGFLAGS(msgflags) RD_KAFKA_VTYPE_MSGFLAGS, RD_KAFKA_V_CHECKED_(int, msgflags)
/** The timestamp in milliseconds since the epoch; 0 is now. */
#define RD_KAFKA_V_TIMESTAMP(timestamp) RD_KAFKA_VTYPE_TIMESTAMP, RD_KAFKA_V_CHECKED_(int64_t, timestamp)
/** One header; may be repeated, but not together with RD_KAFKA_V_HEADERS. */
#define RD_KAFKA_V_HEADER(name, value, len)                                                                            \
        RD_KAFKA_VTYPE_HEADER, RD_KAFKA_V_CHECKED_(const char *, name), RD_KAFKA_V_CHECKED_(const void *, value),      \
            RD_KAFKA_V_CHECKED_(ssize_t, len)
/** A list of headers, which becomes the library's if the message is taken. */
#define RD_KAFKA_V_HEADERS(hdrs) RD_KAFKA_VTYPE_HEADERS, RD_KAFKA_V_CHECKED_(rd_kafka_headers_t *, hdrs)

#ifdef __cplusplus
}
#endif

#endif /* _RDKAFKA_H_ */
