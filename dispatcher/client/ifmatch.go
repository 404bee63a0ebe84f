package client

import "context"

type ifMatch struct{}

// WithIfMatch has the one call that is made with the context change a callback or a callback type only if it is as the caller knows it: etag is the ETag of a
// [Callback] or a [Type], several with commas between, or "*" for however it is. If somebody changed it meanwhile, nothing is done, and the error is an
// [*APIError] with status 412: ask for it as it is now, and decide again. A callback's status and health change no ETag. A type that is not there is not as anybody
// knows it, so PutType makes none.
//
// [Client.PatchCallback], [Client.DeleteCallback], [Client.RotateSecret], [Client.RotateSecretTo], [Client.RotateKey], [Client.PutType], [Client.DeleteType] and
// [Client.Do] take it; what Do asks for must be one of these. Other calls refuse it, and so do all if etag is empty, as it is in lists.
//
// A call is not repeated because of it. If an answer is lost, the change may have been made, and who asks again may be told 412 because of his own. With
// [WithIdempotencyKey] as well a rotation is repeated safely. The server must know the header: version 0.1 takes no notice of it, and answers without an ETag.
func WithIfMatch(ctx context.Context, etag string) context.Context {
	return context.WithValue(ctx, ifMatch{}, etag)
}
