;; An access logger without stream contexts: traps when a stream context is created, and when proxy_on_log is not called on
;; the root context. Logs the request's path and response's status class by a counter `logged`.
(module
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "request\00path")
  (global $root (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32)
    (if (local.get $parent) (then unreachable))
    (global.set $root (local.get $context)))
  (func (export "proxy_on_log") (param $context i32)
    (if (i32.ne (local.get $context) (global.get $root)) (then unreachable))
    (if (i32.eqz (call $property (i32.const 16) (i32.const 12) (i32.const 64) (i32.const 68)))
      (then (drop (call $log (i32.const 4) (i32.load (i32.const 64)) (i32.load (i32.const 68))))))))
