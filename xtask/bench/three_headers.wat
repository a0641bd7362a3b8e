;; The smallest filter that does something: it reads, sets and removes one request header each. Written by hand so that
;; what is measured is the host, not a library in the guest.
(module
  (import "env" "proxy_get_header_map_value" (func $read (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "user-agent")
  (data (i32.const 1040) "x-bench")
  (data (i32.const 1056) "on")
  (data (i32.const 1072) "x-internal")
  (func (export "proxy_abi_version_0_2_1"))
  ;; What the host hands over is read at once and never kept, so one place does for all of it.
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $read (i32.const 0) (i32.const 1024) (i32.const 10) (i32.const 2048) (i32.const 2052)))
    (drop (call $set (i32.const 0) (i32.const 1040) (i32.const 7) (i32.const 1056) (i32.const 2)))
    (drop (call $remove (i32.const 0) (i32.const 1072) (i32.const 10)))
    (i32.const 0)))
