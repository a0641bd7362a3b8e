;; Copies the request's x-name to the response's x-seen. It reads the request's headers after they were forwarded, in
;; proxy_on_response_headers only.
(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-name")
  (data (i32.const 16) "x-seen")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
  (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $get (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 32) (i32.const 36)))
    (drop (call $add (i32.const 2) (i32.const 16) (i32.const 6) (i32.load (i32.const 32)) (i32.load (i32.const 36))))
    i32.const 0)
  (func (export "proxy_on_delete") (param i32)))
