//! Nodes that answer, but not as they should.

use forecastd_chain::storage::storage_key;

use super::*;

#[tokio::test]
async fn a_node_that_answers_with_errors_is_left_for_the_next() {
    let mut script = subnet();
    script.failing = vec!["state_queryStorageAt"];
    let (sick, sound) = (Node::start(script).await, Node::start(subnet()).await);
    let chain = Subtensor::connect(config(&[&sick, &sound])).await.unwrap();
    assert_eq!(chain.endpoint().await.unwrap(), sick.endpoint());
    chain.params().await.unwrap();
    assert_eq!(chain.endpoint().await.unwrap(), sound.endpoint());
    // When all of them are sick the node's own words are the answer.
    sound.script().failing = vec!["state_queryStorageAt"];
    let error = chain.params().await.unwrap_err();
    assert!(matches!(error, ChainError::Rpc { code: -32_005, .. }), "{error}");
    assert!(error.is_retryable());
    sick.stop().await;
    sound.stop().await;
}

#[tokio::test]
async fn the_only_node_is_kept_although_it_answers_with_errors() {
    let mut script = subnet();
    script.failing = vec!["state_queryStorageAt"];
    let node = Node::start(script).await;
    let chain = connect(&node).await;
    for _ in 0..3 {
        let error = chain.params().await.unwrap_err();
        assert!(matches!(error, ChainError::Rpc { .. }), "{error}");
    }
    assert_eq!(node.calls("state_queryStorageAt"), 3);
    assert_eq!(chain.metrics().connections_total.load(Ordering::Relaxed), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_key_that_the_node_passes_over_does_not_count_as_absent() {
    let mut script = subnet();
    let parts = || vec![number(NETUID.0), number(1)];
    script.put("BlockAtRegistration", parts(), &777_u64);
    let key = storage_key(&script.metadata, "SubtensorModule", "BlockAtRegistration", parts());
    script.passed_over = vec![node::to_hex(key.unwrap())];
    let node = Node::start(script).await;
    let chain = connect(&node).await;
    // A registration in block 0 would make a stranger of a known neuron.
    let error = chain.metagraph().await.unwrap_err();
    assert!(error.to_string().contains("1 of 3 storage keys"), "{error}");
    assert!(error.is_retryable());
    node.script().passed_over.clear();
    assert_eq!(chain.metagraph().await.unwrap().neurons[1].registered_at_block, 777);
    node.stop().await;
}
