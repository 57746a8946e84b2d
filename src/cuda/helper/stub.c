/* Stands in for libdl.so.2 while the helper is linked; never shipped. */
void dlopen(void);
void dlsym(void);
void dlclose(void);
void dlerror(void);

void dlopen(void) {
}

void dlsym(void) {
}

void dlclose(void) {
}

void dlerror(void) {
}
