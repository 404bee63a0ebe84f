package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
)

const egressRoute = "/egress"

type egressOut struct{ Body dispatcher.Egress }

func (s *server) egress() {
	chapter := []string{"Egress"}
	register(s, operation{need: manageEgress, Operation: huma.Operation{
		OperationID: "get-egress", Method: http.MethodGet, Path: egressRoute, Tags: chapter, Summary: "Does anything go out?",
		Description: "Takes an operator's key for all companies.",
	}}, steerEgress(s.Client.Egress))
	register(s, operation{need: manageEgress, repeats: actsOnceInBulk, Operation: huma.Operation{
		OperationID: "pause-egress", Method: http.MethodPost, Path: egressRoute + "/pause", Tags: chapter, Summary: "Stop everything that goes out",
		Description: "Of all companies: deliveries wait, decisions and tests are refused. Events are accepted as ever. Once this answers no attempt begins; " +
			"those in flight finish. To pause twice changes nothing. Takes an operator's key for all companies.",
	}}, steerEgress(s.Client.PauseEgress))
	register(s, operation{need: manageEgress, repeats: actsOnceInBulk, Operation: huma.Operation{
		OperationID: "resume-egress", Method: http.MethodPost, Path: egressRoute + "/resume", Tags: chapter, Summary: "Let everything go out again",
		Description: "What waited goes out at once. Takes an operator's key for all companies.",
	}}, steerEgress(s.Client.ResumeEgress))
}

func steerEgress(do func(context.Context) (dispatcher.Egress, error)) func(context.Context, *struct{}) (*egressOut, error) {
	return func(ctx context.Context, _ *struct{}) (*egressOut, error) {
		e, err := do(ctx)
		return &egressOut{e}, err
	}
}
