package ottla;

/** One thing that a client does and that must work: its name is what the runner prints. */
record Case(String name, Body body) {
    interface Body {
        void run(World world) throws Exception;
    }
}
