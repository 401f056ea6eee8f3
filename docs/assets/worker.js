// Browsers let a page that is opened from disk start no worker, and the search runs in one. There a frame takes its place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #waiting = [];
    #room = null;

    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      (document.body ?? document.documentElement).append(frame);
      const room = frame.contentWindow;
      room.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = room.document.createElement("script");
      script.src = address;
      script.onload = () => {
        this.#room = room;
        this.#waiting.splice(0).forEach((data) => this.postMessage(data));
      };
      room.document.body.append(script);
    }

    postMessage(data) {
      if (this.#room) this.#room.dispatchEvent(new MessageEvent("message", { data }));
      else this.#waiting.push(data);
    }
  };
}
