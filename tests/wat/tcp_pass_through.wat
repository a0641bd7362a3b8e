;; Has the callbacks of TCP connections and passes every byte.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_new_connection") (param i32) (result i32) i32.const 0)
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) i32.const 0)
  (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32) i32.const 0))
