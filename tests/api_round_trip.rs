//! What `weir get` prints can be applied: here, in another mesh, and from a file.

use harness::{ControlPlane, Origin, Resources};

async fn weir(control: &ControlPlane, arguments: &[&str]) -> String {
    let (is_good, output, errors) = control.weir(arguments).await;
    assert!(is_good, "weir {arguments:?}: {output}{errors}");
    output
}

/// Applies the printed objects to a mesh that has them, and to one that does not.
async fn check_round_trip(control: &ControlPlane, printed: &str, file: &str) {
    control.write(file, printed);
    let again = weir(control, &["apply", "-f", file]).await;
    let changes: Vec<&str> = again.lines().filter(|line| !line.starts_with("revision")).collect();
    assert!(changes.len() == 3 && changes.iter().all(|line| line.ends_with("unchanged")), "{again}");
    assert!(weir(control, &["validate", "-f", file]).await.starts_with("valid: 3 objects"));

    let other = ControlPlane::start().await;
    other.write(file, printed);
    let applied = weir(&other, &["apply", "-f", file]).await;
    assert_eq!(applied.lines().filter(|line| line.ends_with(" created")).count(), 3, "{applied}");
    let objects = other.get("resources").await;
    for object in objects.as_array().unwrap() {
        assert!(object["metadata"]["creationTimestamp"].is_string(), "{object}");
        assert_eq!(object["status"]["revision"], 1, "the status is that of this mesh: {object}");
        assert!(object["metadata"].get("uid").is_none() && object["metadata"].get("generation").is_none(), "{object}");
    }
    weir(&other, &["delete", "-f", file]).await;
    assert_eq!(weir(&other, &["get", "-o", "json"]).await.trim(), "[]");
}

#[tokio::test]
async fn printed_objects_can_be_applied_here_and_elsewhere() {
    let origin = Origin::text("origin").await;
    let control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let yaml = weir(&control, &["get", "-o", "yaml"]).await;
    assert!(yaml.contains("status:") && yaml.contains("creationTimestamp"), "{yaml}");
    check_round_trip(&control, &yaml, "b.yaml").await;
    let json = weir(&control, &["get", "-o", "json"]).await;
    check_round_trip(&control, &json, "b.json").await;
    // What kubectl prints.
    let mut items: serde_json::Value = serde_json::from_str(&json).unwrap();
    for item in items.as_array_mut().unwrap() {
        for (field, value) in [("uid", "a-b"), ("resourceVersion", "7")] {
            item["metadata"][field] = value.into();
        }
        item["metadata"]["generation"] = 3.into();
        item["metadata"]["managedFields"] = serde_json::json!([{"manager": "kubectl"}]);
    }
    let list =
        serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items});
    check_round_trip(&control, &list.to_string(), "list.json").await;
}

#[tokio::test]
async fn errors_in_a_list_have_their_lines() {
    let control = ControlPlane::start().await;
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: weir.dev/v1alpha1\n  kind: ServiceEntry\n  \
                metadata: {name: a}\n  spec: {prts: []}\n";
    control.write("list.yaml", list);
    for command in ["apply", "validate"] {
        let (is_good, output, errors) = control.weir(&[command, "-f", "list.yaml"]).await;
        let expected = "list.yaml:7:10: ServiceEntry default/a: spec.prts: unknown field";
        assert!(!is_good && errors.contains(expected), "{output}{errors}");
    }
}
