// What the kernel says reaches a view, however slowly the page came up.
//
// anywidget hands a model's messages on once its module is loaded; a model whose module took longer than
// two seconds, as on a busy machine, it never hands another one (its `_handle_comm_msg` awaits a promise
// that was rejected). And whatever the kernel sends between telling a page the state of its widgets and
// the page having made them goes nowhere. So a view that is drawn takes the messages without that
// promise, and asks once for the state as it is now.

/** `_handle_comm_msg` of the widgets' own base class, below what anywidget puts over it. */
function ownHandler(widget) {
  let found = null;
  for (let kind = Object.getPrototypeOf(widget); kind; kind = Object.getPrototypeOf(kind)) {
    if (Object.hasOwn(kind, "_handle_comm_msg")) found = kind._handle_comm_msg;
  }
  return found;
}

async function hear(model) {
  const widget = await model.widget_manager?.get_model(model.get("_own_id"));
  if (!widget?.comm_live) return; // a page without a kernel
  const handle = ownHandler(widget);
  widget.comm.on_msg((message) => handle.call(widget, message));
  model.send({ call: "catch_up" });
}

const hearing = (render) => (given) => {
  render(given);
  hear(given.model);
};
