// A filter in AssemblyScript with the unmodified SDK of solo-io. Its effects in Envoy and in Weir are compared by
// `tests/conformance/assemblyscript.rs`. The request header `x-do` selects the action.
export * from "@solo-io/proxy-runtime/proxy";
import {
  BaseContext, BufferTypeValues, Context, Counter, FilterDataStatusValues, FilterHeadersStatusValues, GrpcStatusValues,
  HeaderPair, LogLevelValues, RootContext, get_buffer_bytes, get_property, log, registerRootContext,
  send_local_response, set_property, stream_context,
} from "@solo-io/proxy-runtime/runtime";

class Root extends RootContext {
  counter: Counter = new Counter("as_requests");

  onConfigure(size: u32): bool {
    super.onConfigure(size);
    return this.getConfiguration() != "refuse me";
  }

  createContext(context_id: u32): Context {
    return new Stream(context_id, this);
  }
}

class Stream extends Context {
  what: string = "";

  constructor(context_id: u32, root: Root) {
    super(context_id, root);
  }

  onRequestHeaders(a: u32, end_of_stream: bool): FilterHeadersStatusValues {
    let request = stream_context.headers.request;
    this.what = request.get("x-do");
    (this.root_context as Root).counter.increment(1);
    if (this.what == "headers") {
      request.add("x-as-added", "1");
      request.add("x-as-added", "2");
      request.replace("x-sent", this.root_context.getConfiguration());
      request.remove("x-gone");
    } else if (this.what == "pairs") {
      let all = request.get_headers();
      let names = "";
      for (let i = 0; i < all.length; i++) {
        names += String.UTF8.decode(all[i].key) + ",";
      }
      request.add("x-as-names", names);
    } else if (this.what == "property") {
      request.add("x-as-path", String.UTF8.decode(get_property("request\0path")));
      set_property("as_value", String.UTF8.encode("kept"));
      request.add("x-as-value", String.UTF8.decode(get_property("as_value")));
    } else if (this.what == "reply") {
      let headers = new Array<HeaderPair>();
      headers.push(new HeaderPair(String.UTF8.encode("x-as"), String.UTF8.encode("replied")));
      send_local_response(403, "as said no", String.UTF8.encode("no"), headers, GrpcStatusValues.PermissionDenied);
      return FilterHeadersStatusValues.StopIteration;
    } else if (this.what == "call") {
      let headers = new Array<HeaderPair>();
      headers.push(new HeaderPair(String.UTF8.encode(":method"), String.UTF8.encode("GET")));
      headers.push(new HeaderPair(String.UTF8.encode(":path"), String.UTF8.encode("/called")));
      headers.push(new HeaderPair(String.UTF8.encode(":authority"), String.UTF8.encode("callee")));
      let cluster = request.get("x-cluster");
      let nothing = new Array<HeaderPair>();
      let outcome = this.root_context.httpCall(cluster, headers, new ArrayBuffer(0), nothing, 1000, this,
        (origin: BaseContext, headers: u32, body: usize, trailers: u32): void => {
          (origin as Stream).answered(headers, body as u32);
        });
      request.add("x-as-call", outcome.toString());
      return FilterHeadersStatusValues.StopIteration;
    } else if (this.what == "abort") {
      assert(false, "told to abort");
    } else if (this.what == "log") {
      log(LogLevelValues.warn, "from AssemblyScript");
    }
    return FilterHeadersStatusValues.Continue;
  }

  answered(headers: u32, body: u32): void {
    this.setEffectiveContext();
    stream_context.headers.request.add("x-as-answer", headers > 0 ? "answered" : "failed");
    this.continueRequest();
  }

  onRequestBody(size: usize, end_of_stream: bool): FilterDataStatusValues {
    if (this.what == "body" && !end_of_stream) {
      return FilterDataStatusValues.StopIterationAndBuffer;
    }
    if (this.what == "body") {
      let text = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpRequestBody, 0, size as u32));
      log(LogLevelValues.info, "body of " + size.toString() + ": " + text);
    }
    return FilterDataStatusValues.Continue;
  }

  onResponseHeaders(a: u32, end_of_stream: bool): FilterHeadersStatusValues {
    stream_context.headers.response.add("x-as", "was here");
    return FilterHeadersStatusValues.Continue;
  }
}

registerRootContext((context_id: u32) => { return new Root(context_id); }, "as_root");
